"""Files: one module per format; these are the functions to call."""

from afmid.io.atomic import atomic_path as atomic_path
from afmid.io.identification_file import read_identification as read_identification
from afmid.io.identification_file import to_json as to_json
from afmid.io.identification_file import write_identification as write_identification
from afmid.io.molecules import read_molecule as read_molecule
from afmid.io.molecules import write_molecule as write_molecule
from afmid.io.potential_file import read_potential as read_potential
from afmid.io.scans import read_scan as read_scan
from afmid.io.scans import write_scan as write_scan
