// One work item handles LANES pixels side by side: on a CPU as many as a vector register holds, on a GPU one.
// The arithmetic below reads the same for both.
#if LANES == 1
typedef float real;
typedef int whole;
#define LOAD(address) (*(address))
#define STORE(value, address) (*(address) = (value))
#define TO_WHOLE(value) ((int)(value))
#define ANY(condition) (condition)
#define NOT(condition) (!(condition))
#else
#define JOIN(a, b) a##b
#define VECTOR(type, lanes) JOIN(type, lanes)
typedef VECTOR(float, LANES) real;
typedef VECTOR(int, LANES) whole;
#define LOAD(address) VECTOR(vload, LANES)(0, address)
#define STORE(value, address) VECTOR(vstore, LANES)(value, 0, address)
#define TO_WHOLE(value) VECTOR(convert_int, LANES)(value)
#define ANY(condition) any(condition)
#define NOT(condition) (~(condition))
#endif

typedef struct { real x, y, z; } vector;               // force or position
typedef struct { real xx, yy, zz, xy, xz, yz; } matrix;  // symmetric

real inverse_root(real s)
{
    const real y = native_rsqrt(s);  // good to 14 bits or better; one Newton step makes it 23
    return fma(0.5f * y, fma(-s * y, y, (real)1.0f), y);
}

real dot3(vector a, vector b) { return fma(a.x, b.x, fma(a.y, b.y, a.z * b.z)); }
