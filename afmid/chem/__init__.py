"""What afmid asks of RDKit: geometries, charges, bonds and names of molecules."""

from afmid.chem.bonds import perceive_bonds as perceive_bonds
from afmid.chem.charges import mmff_charges as mmff_charges
from afmid.chem.charges import with_charges as with_charges
from afmid.chem.flatness import flatness as flatness
from afmid.chem.geometry import PRESS_TRIALS as PRESS_TRIALS
from afmid.chem.geometry import PressError as PressError
from afmid.chem.geometry import SlowError as SlowError
from afmid.chem.geometry import embed as embed
from afmid.chem.geometry import height_range as height_range
from afmid.chem.geometry import lay_flat as lay_flat
from afmid.chem.names import SmilesError as SmilesError
from afmid.chem.names import composition as composition
from afmid.chem.names import find_named as find_named
from afmid.chem.names import formula as formula
from afmid.chem.names import imaged_inchikeys as imaged_inchikeys
from afmid.chem.names import inchikey as inchikey
from afmid.chem.names import named_molecules as named_molecules
from afmid.chem.names import smiles_of as smiles_of
from afmid.chem.similarity import shared_elements as shared_elements
from afmid.chem.similarity import tanimoto as tanimoto
