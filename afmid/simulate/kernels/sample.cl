// Force of the sample on the probe and the Hessian of its energy: Lennard-Jones + Coulomb, summed over all atoms
// (Hapala et al., PRB 90, 085421, 2014). Units: Å, eV, e.
//
// An atom is (x, y, z, 6 C6; 12 C12, ke q Q0, ke q Q, −8 · 6 C6): Q0 the probe's monopole, Q its quadrupole. With d from the atom
// to the probe and s = d·d, ∂E/∂d = a d + 6 q5 dz ẑ; Hessian = a 1 + b d dᵀ + c (d ẑᵀ + ẑ dᵀ) + 6 q5 ẑ ẑᵀ.
void sample_law(vector probe, __global const float8 *atoms, int count, vector *force, matrix *hessian)
{
    vector f = {0, 0, 0};
    matrix h = {0, 0, 0, 0, 0, 0};
    real trace = 0;
    for (int i = 0; i < count; i++) {
        const float8 atom = atoms[i];
        const real dx = probe.x - atom.s0, dy = probe.y - atom.s1, dz = probe.z - atom.s2;
        const real s = fma(dx, dx, fma(dy, dy, dz * dz));
        const real inverse = inverse_root(s > FLOOR ? s : (real)FLOOR);
        const real i2 = inverse * inverse, i4 = i2 * i2, i8 = i4 * i4;
        const real repulsion = atom.s4 * i4 * i2;
        real a = (atom.s3 - repulsion) * i8;
        real b = fma((real)14.0f, repulsion, (real)atom.s7) * i8;
#ifdef MONOPOLE
        const real m = atom.s5 * i2 * inverse;
        a -= m;
        b = fma((real)3.0f, m, b);
#endif
#ifdef QUADRUPOLE
        const real q5 = atom.s6 * i4 * inverse, z2 = dz * dz * i2;
        a = fma(q5, fma((real)-15.0f, z2, (real)3.0f), a);
        b = fma(q5, fma((real)105.0f, z2, (real)-15.0f), b);
#endif
        b *= i2;
        const real bx = b * dx, by = b * dy;
        real az = a, bz = b * dz;  // of the terms along ẑ: a dz + 6 q5 dz; b dz + c, and twice c for zz
#ifdef QUADRUPOLE
        const real d = 6.0f * q5, c = -5.0f * d * dz * i2;
        az += d;
        h.zz += fma(c, dz, d);
        bz += c;
#endif
        f.x = fma(-a, dx, f.x);
        f.y = fma(-a, dy, f.y);
        f.z = fma(-az, dz, f.z);
        trace += a;
        h.xx = fma(bx, dx, h.xx);
        h.yy = fma(by, dy, h.yy);
        h.zz = fma(bz, dz, h.zz);
        h.xy = fma(bx, dy, h.xy);
        h.xz = fma(bz, dx, h.xz);
        h.yz = fma(bz, dy, h.yz);
    }
    h.xx += trace;
    h.yy += trace;
    h.zz += trace;
    *force = f;
    *hessian = h;
}
