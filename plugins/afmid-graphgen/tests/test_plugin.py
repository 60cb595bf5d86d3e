import subprocess
import sys

from afmid import Identifier, Trainer
from afmid.plugins import installed


def test_the_plugin_offers_a_method_and_a_trainer():
    registry = installed(("graphgen",))
    assert registry.get(Identifier, "graphgen").weights_index.name == "weights.toml"
    assert registry.get(Trainer, "graphgen").name == "graphgen"


def test_every_option_has_a_default_and_a_description():
    for field in installed(("graphgen",)).get(Identifier, "graphgen").options.model_fields.values():
        assert not field.is_required()
        assert field.description


def test_listing_what_the_plugin_offers_imports_nothing_heavy():
    code = (
        "import sys, afmid_graphgen as d; d.afmid_identify(), d.afmid_train(); "
        "print(sorted({'torch', 'scipy', 'rdkit', 'ase', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
