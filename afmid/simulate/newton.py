"""The settings of the safeguarded Newton iteration that the engines share: how the probe finds where it rests.

At each height the probe starts where the heights before it lead, and steps until little force is left on it. The last
step is taken after the test and the force follows it to first order, so that no evaluation is spent on confirmation.
"""

SOFTEST = 1e-3  # eV/Å²: curvatures below this count as this
RIDGE = -1e-4  # eV/Å²: below this curvature the probe stands on a ridge,
OFF_RIDGE = 0.05  # Å: and is sent off it by at least this
REACH = 0.3  # Å: the longest step at first
GUESS = 0.15  # Å: the longest extrapolation from the heights before
SETTLED = 3e-3  # eV/Å: the most force that may be left on the probe when its last step is taken,
LAST_STEP = 0.005  # Å: which is shorter than this
ITERATIONS = 40
