// Force of a Hartree potential on the probe and the Hessian of its energy. The energy of the probe's charges on a lattice, in
// eV, is interpolated by cubic B-splines: see afmid/simulate/potential.py.
//
// `lattice` says of a scene where its coefficients start, how many points each axis has, which of them lies below the middle of
// the scan and how far, and how many lattice steps an Å along x, y, z is. The coefficients repeat one plane before the
// first and two after the last.
typedef struct { int start, count[3], base[3], unused; float offset[3], steps[9], unused_too[4]; } lattice;

typedef struct { real value[4], slope[4], curve[4]; } spline;  // of the four B-splines around a point

spline splines_at(real f)  // f: from the lattice point below, 0 to 1
{
    const real g = 1.0f - f;
    const spline s = {
        {g * g * g / 6.0f, (3.0f * f * f * (f - 2.0f) + 4.0f) / 6.0f, (3.0f * g * g * (g - 2.0f) + 4.0f) / 6.0f, f * f * f / 6.0f},
        {-0.5f * g * g, 0.5f * f * (3.0f * f - 4.0f), -0.5f * g * (3.0f * g - 4.0f), 0.5f * f * f},
        {g, 3.0f * f - 2.0f, 3.0f * g - 2.0f, f},
    };
    return s;
}

void add_potential(lattice box, __global const float *coefficients, vector probe, vector *force, matrix *hessian)
{
    const int strides[3] = {(box.count[1] + 3) * (box.count[2] + 3), box.count[2] + 3, 1};
    whole corner = (whole)box.start;  // of the cube of 4 × 4 × 4 coefficients around the probe
    spline s[3];
    for (int axis = 0; axis < 3; axis++) {
        const float *per = box.steps + 3 * axis;
        const real t = box.offset[axis] + per[0] * probe.x + per[1] * probe.y + per[2] * probe.z, below = floor(t);
        const whole cell = (TO_WHOLE(below) + box.base[axis]) % box.count[axis];
        corner += (cell < 0 ? cell + box.count[axis] : cell) * strides[axis];
        s[axis] = splines_at(t - below);
    }
    real g[3] = {0, 0, 0}, h[6] = {0, 0, 0, 0, 0, 0};  // along the lattice: 1, 2, 3; 11, 22, 33, 12, 13, 23
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            int line[LANES];
            STORE(corner + i * strides[0] + j * strides[1], line);
            real value = 0, slope = 0, curve = 0;
            for (int k = 0; k < 4; k++) {
                float near[LANES];
                for (int lane = 0; lane < LANES; lane++)
                    near[lane] = coefficients[line[lane] + k];
                const real c = LOAD(near);
                value = fma(s[2].value[k], c, value);
                slope = fma(s[2].slope[k], c, slope);
                curve = fma(s[2].curve[k], c, curve);
            }
            const real x = s[0].value[i], y = s[1].value[j];
            g[0] += s[0].slope[i] * y * value;
            g[1] += x * s[1].slope[j] * value;
            g[2] += x * y * slope;
            h[0] += s[0].curve[i] * y * value;
            h[1] += x * s[1].curve[j] * value;
            h[2] += x * y * curve;
            h[3] += s[0].slope[i] * s[1].slope[j] * value;
            h[4] += s[0].slope[i] * y * slope;
            h[5] += x * s[1].slope[j] * slope;
        }
    const float *p = box.steps;  // lattice steps per Å: p[3 axis + 0 … 2] along x, y, z
    const real rows[3][3] = {{h[0], h[3], h[4]}, {h[3], h[1], h[5]}, {h[4], h[5], h[2]}};
    real per[3][3];  // derivative along x, y, z of the slope along a lattice axis
    for (int a = 0; a < 3; a++)
        for (int c = 0; c < 3; c++)
            per[a][c] = rows[a][0] * p[c] + rows[a][1] * p[3 + c] + rows[a][2] * p[6 + c];
    force->x -= p[0] * g[0] + p[3] * g[1] + p[6] * g[2];
    force->y -= p[1] * g[0] + p[4] * g[1] + p[7] * g[2];
    force->z -= p[2] * g[0] + p[5] * g[1] + p[8] * g[2];
    hessian->xx += p[0] * per[0][0] + p[3] * per[1][0] + p[6] * per[2][0];
    hessian->yy += p[1] * per[0][1] + p[4] * per[1][1] + p[7] * per[2][1];
    hessian->zz += p[2] * per[0][2] + p[5] * per[1][2] + p[8] * per[2][2];
    hessian->xy += p[0] * per[0][1] + p[3] * per[1][1] + p[6] * per[2][1];
    hessian->xz += p[0] * per[0][2] + p[3] * per[1][2] + p[6] * per[2][2];
    hessian->yz += p[1] * per[0][2] + p[4] * per[1][2] + p[7] * per[2][2];
}
