"""The maps by name, in the order of a network's channels, with their units; `targets` says how each is computed.

- disks: a cone on every atom near the top, the flatter the deeper the atom lies; shows where atoms are.
- spheres: the atoms as balls, seen from above; shows the molecule's shape.
- height: how high above the molecule a probe first feels a given repulsion; shows what the tip feels.
- bonds: a stick on every bond between atoms near the top, the flatter the deeper the bond lies.
- peaks: a peak on every atom near the top, which hydrogens have like others; shows where atoms are, not how deep.
- field: the vertical electric field that the molecule's charges make at a constant height; zero beside the molecule.
"""

MAPS = {"disks": "1", "spheres": "Å", "height": "Å", "bonds": "1", "field": "V/Å", "peaks": "1"}
