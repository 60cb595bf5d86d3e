// The scan of LANES pixels of one scene: the tip base descends, at every height the probe relaxes, starting where the heights before
// it lead, and the vertical force on it is added, with its weight, to the images it belongs to.
//
// Global size: (blocks of pixels, scenes). Units: Å, eV. A probe has settled where less force than `enough` is left and its last
// step is shorter than `last_step`. `scratch`: one value for each image and lane of the work group.
__kernel __attribute__((vec_type_hint(real)))
void scan(__global const float8 *atoms, __global const int *first_atom, __global const tip *tips,
          __global const lattice *lattices, __global const float *coefficients,
          __global const float *xs, __global const float *ys, __global const float *zs, __constant const float *weights,
          const int nx, const int ny, const int heights, const int span, const float enough, const float last_step,
          __global float *values, __global int *unsettled, __local float *scratch)
{
    const int scene = get_global_id(1), block = get_global_id(0), pixels = nx * ny, count = heights - span + 1;
    __local float *images = scratch + get_local_id(0) * count * LANES;
    const tip t = tips[scene];
    const int start = first_atom[scene], atom_count = first_atom[scene + 1] - start;
    vector base;
    float bx[LANES], by[LANES];
    for (int lane = 0; lane < LANES; lane++) {
        const int pixel = min(block * LANES + lane, pixels - 1);
        bx[lane] = xs[scene * nx + pixel / ny];
        by[lane] = ys[scene * ny + pixel % ny];
    }
    base.x = LOAD(bx);
    base.y = LOAD(by);
    for (int i = 0; i < count * LANES; i++)
        images[i] = 0;

    vector u = {t.x, t.y, t.z}, before = u, earlier = u;  // tip base to probe: now, and at the last two heights
    whole lost = 0;
    for (int k = 0; k < heights; k++) {
        base.z = zs[scene * heights + k] - t.z;
        vector guess = u;
        if (k > 2) {
            guess.x += clamp(2 * u.x - 3 * before.x + earlier.x, -(real)GUESS, (real)GUESS);
            guess.y += clamp(2 * u.y - 3 * before.y + earlier.y, -(real)GUESS, (real)GUESS);
            guess.z += clamp(2 * u.z - 3 * before.z + earlier.z, -(real)GUESS, (real)GUESS);
        } else if (k == 2) {
            guess.x += clamp(u.x - before.x, -(real)GUESS, (real)GUESS);
            guess.y += clamp(u.y - before.y, -(real)GUESS, (real)GUESS);
            guess.z += clamp(u.z - before.z, -(real)GUESS, (real)GUESS);
        }
        earlier = before;
        before = u;
        u = guess;

        real fz = 0, reach = REACH, gain = 0;
        vector last = {0, 0, 0};
        whole going = (whole)-1;
        for (int iteration = 0; iteration < ITERATIONS && ANY(going); iteration++) {
            vector probe = {base.x + u.x, base.y + u.y, base.z + u.z}, g;
            matrix h;
            sample_law(probe, atoms + start, atom_count, &g, &h);
#ifdef POTENTIAL
            add_potential(lattices[scene], coefficients, probe, &g, &h);
#endif
            const real pull = g.z, hxz = h.xz, hyz = h.yz, hzz = h.zz;
            add_springs(t, u, &g, &h);
            real low;
            vector e = newton_step(g, h, &low);
            reach = dot3(g, last) < -OVERSHOT * gain ? 0.5f * reach : fmin(GROWTH * reach, (real)REACH);
            const real size = sqrt(dot3(e, e)), shortened = fmin(reach / fmax(size, (real)1e-12f), (real)1.0f);
            e.x *= shortened;
            e.y *= shortened;
            e.z *= shortened;
            const whole settled = low > RIDGE && size * shortened < last_step && dot3(g, g) < enough * enough;
            const real after = pull - fma(hxz, e.x, fma(hyz, e.y, hzz * e.z));  // to first order, after the step
            fz = going ? after : fz;
            u.x = going ? u.x + e.x : u.x;
            u.y = going ? u.y + e.y : u.y;
            u.z = going ? u.z + e.z : u.z;
            last = e;
            gain = dot3(g, e);
            going = going && NOT(settled);
        }
        lost += going ? (whole)1 : (whole)0;
        for (int i = max(0, k - span + 1); i <= min(k, count - 1); i++)
            STORE(fma((real)weights[k - i], fz, LOAD(images + i * LANES)), images + i * LANES);
    }

    int failures[LANES];
    STORE(lost, failures);
    for (int lane = 0; lane < LANES; lane++) {
        const int pixel = block * LANES + lane;
        if (pixel < pixels) {
            const long where = (long)scene * pixels + pixel;
            unsettled[where] = failures[lane];
            for (int i = 0; i < count; i++)
                values[where * count + i] = images[i * LANES + lane];
        }
    }
}
