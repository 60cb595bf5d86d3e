import subprocess
import sys

from afmid import Identifier, Metric, Trainer
from afmid.plugins import installed


def test_the_plugin_offers_a_method_a_trainer_and_a_metric():
    registry = installed(("descriptor",))
    assert registry.get(Identifier, "descriptor").weights_index.name == "weights.toml"
    assert registry.get(Trainer, "descriptor").name == "descriptor"
    assert registry.get(Metric, "descriptor-maps").load().__name__ == "map_errors"


def test_every_option_has_a_default_and_a_description():
    for field in installed(("descriptor",)).get(Identifier, "descriptor").options.model_fields.values():
        assert not field.is_required()
        assert field.description


def test_listing_what_the_plugin_offers_imports_nothing_heavy():
    code = (
        "import sys, afmid_descriptor as d; d.afmid_identify(), d.afmid_train(), d.afmid_evaluate(); "
        "print(sorted({'torch', 'scipy', 'rdkit', 'ase', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
