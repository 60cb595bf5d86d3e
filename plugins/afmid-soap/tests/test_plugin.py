import subprocess
import sys

from afmid import Identifier, Trainer
from afmid.plugins import installed


def test_the_plugin_offers_a_method_and_a_trainer():
    registry = installed(("soap",))
    assert registry.get(Identifier, "soap").weights_index.name == "weights.toml"
    assert registry.get(Trainer, "soap").name == "soap"


def test_listing_what_the_plugin_offers_imports_nothing_heavy():
    code = (
        "import sys, afmid_soap as d; d.afmid_identify(), d.afmid_train(); "
        "print(sorted({'torch', 'scipy', 'rdkit', 'ase', 'dscribe', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_training_code_imports_no_dscribe():
    code = "import sys, afmid_soap.recipe; print(sorted({'rdkit', 'ase', 'dscribe'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
