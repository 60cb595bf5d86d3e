"""Constants and conversions. Inside afmid lengths are Å, energies eV, charges e, frequencies Hz.

Multiply to enter (`1800 * N_per_m`), divide to leave (`stiffness / N_per_m`). Values: CODATA 2018.
"""

COULOMB = 14.3996454784  # e²/(4πε₀), eV·Å
ELEMENTARY_CHARGE = 1.602176634e-19  # C
N_per_m = 1e-20 / ELEMENTARY_CHARGE  # eV/Å²
BOHR = 0.529177210903  # Å
HARTREE = 27.211386245988  # eV
