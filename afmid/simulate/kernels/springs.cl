// The two springs of the tip: radial (rest length `length`) and lateral (around the rest position), from which the probe hangs.
// u is the vector from tip base to probe (Å). Adds their force (eV/Å) and the Hessian of their energy.
typedef struct { float lateral, radial, length, x, y, z; } tip;

void add_springs(tip t, vector u, vector *force, matrix *hessian)
{
    const real inverse = inverse_root(dot3(u, u));
    const real ratio = t.length * inverse, stretch = t.radial * (1.0f - ratio);
    const real along = t.radial * ratio * inverse * inverse;
    force->x -= t.lateral * (u.x - t.x) + stretch * u.x;
    force->y -= t.lateral * (u.y - t.y) + stretch * u.y;
    force->z -= stretch * u.z;
    hessian->xx += t.lateral + stretch + along * u.x * u.x;
    hessian->yy += t.lateral + stretch + along * u.y * u.y;
    hessian->zz += stretch + along * u.z * u.z;
    hessian->xy += along * u.x * u.y;
    hessian->xz += along * u.x * u.z;
    hessian->yz += along * u.y * u.z;
}
