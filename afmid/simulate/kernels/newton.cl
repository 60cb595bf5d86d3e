// Where the probe goes next: a Newton step that leaves saddles and never climbs.
//
// The stiff direction z is eliminated; the two soft ones are solved along their own axes, each curvature counting by its
// magnitude. `lowest` receives the lower of the two soft curvatures (eV/Å²): negative on a ridge.
vector newton_step(vector g, matrix j, real *lowest)
{
    const real p = 1.0f / fmax(fabs(j.zz), (real)STIFFEST);
    const real lx = j.xz * p, ly = j.yz * p;
    const real xx = fma(-j.xz, lx, j.xx), yy = fma(-j.yz, ly, j.yy), xy = fma(-j.xz, ly, j.xy);
    const real rx = fma(-lx, g.z, g.x), ry = fma(-ly, g.z, g.y);
    const real mean = 0.5f * (xx + yy), half_ = 0.5f * (xx - yy);
    const real root = sqrt(fma(half_, half_, fma(xy, xy, (real)1e-20f)));
    const real share = 0.5f * half_ / root;
    const real c = sqrt(fmax(0.5f + share, (real)0.0f)), s = copysign(sqrt(fmax(0.5f - share, (real)0.0f)), xy);
    const real low = mean - root;
    const real first = fma(c, rx, s * ry) / fmax(fabs(mean + root), (real)SOFTEST);
    real second = fma(c, ry, -s * rx) / fmax(fabs(low), (real)SOFTEST);
    second = low < RIDGE ? copysign(fmax(fabs(second), (real)OFF_RIDGE), second) : second;
    vector e;
    e.x = fma(c, first, -s * second);
    e.y = fma(s, first, c * second);
    e.z = p * fma(-j.xz, e.x, fma(-j.yz, e.y, g.z));
    *lowest = low;
    return e;
}
