/* Vectors of VW floats (extensions of GCC and Clang), and functions of them. The compiler's flags choose VW. */
#ifndef VECTORS_H
#define VECTORS_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LINE 16 /* floats of a cache line; every size below is a multiple */
#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define VW 16
#define REGISTERS 32
#include <immintrin.h>
#elif defined(__AVX__)
#define VW 8
#define REGISTERS 16
#else
#define VW 4
#if defined(__aarch64__)
#define REGISTERS 32
#else
#define REGISTERS 16
#endif
#endif

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* Keep the compiler from loading a vector again for every use. */
#if VW == 16
#define KEEP_IN_REGISTER(v) __asm__("" : "+v"(v))
#elif defined(__SSE2__)
#define KEEP_IN_REGISTER(v) __asm__("" : "+x"(v))
#else
#define KEEP_IN_REGISTER(v)
#endif

typedef float Floats __attribute__((vector_size(VW * 4)));
typedef float LooseFloats __attribute__((vector_size(VW * 4), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(VW * 4)));
typedef int32_t LooseInts __attribute__((vector_size(VW * 4), aligned(4), may_alias));

INLINE Floats load(const float *p) { return (Floats)*(const LooseFloats *)p; }
INLINE void store(float *p, Floats v) { *(LooseFloats *)p = (LooseFloats)v; }
INLINE Floats fill(float v) { return v - (Floats){0}; } /* v + 0 would differ from v if that is -0, and cost an addition */
INLINE Floats choose(Ints mask, Floats a, Floats b) { return (Floats)(((Ints)a & mask) | ((Ints)b & ~mask)); }
/* The first, where it is no number: so it stays visible behind activations. */
INLINE Floats larger(Floats a, Floats b) { return choose((Ints)(a < b), b, a); }
INLINE Floats smaller(Floats a, Floats b) { return choose((Ints)(a > b), b, a); }
/* Zero wherever the mask is 0; elsewhere it is -1. */
INLINE Floats keep_inside(Floats v, const int32_t *mask) { return (Floats)((Ints)v & (Ints)*(const LooseInts *)mask); }

/* e^x, to about 1e-7 of its value: 2^n by the exponent's bits, 2^f for |f| <= 1/2 by its Taylor polynomial. */
INLINE Floats exponential(Floats x) {
  x = smaller(larger(x * 1.44269504f, fill(-126.f)), fill(126.f));
  const Floats rounder = fill(12582912.f); /* 1.5 * 2^23: adding it rounds to a whole number */
  const Floats whole = (x + rounder) - rounder, f = x - whole;
  Floats p = fill(1.5403530e-4f);
  p = p * f + 1.3333558e-3f;
  p = p * f + 9.6181291e-3f;
  p = p * f + 5.5504109e-2f;
  p = p * f + 2.4022651e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.f;
  return p * (Floats)((__builtin_convertvector(whole, Ints) + 127) << 23);
}

INLINE Floats sigmoid(Floats x) { return 1.f / (1.f + exponential(-x)); }

/* Abramowitz and Stegun, 7.1.26; within 1.5e-7. */
INLINE Floats error_function(Floats x) {
  const Floats size = larger(x, -x), t = 1.f / (1.f + 0.3275911f * size);
  const Floats p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
  const Floats out = 1.f - p * exponential(-size * size);
  return choose((Ints)(x < 0.f), -out, out);
}

INLINE Floats square_root(Floats x) {
  for (int i = 0; i < VW; i++) x[i] = __builtin_sqrtf(x[i]);
  return x;
}

enum { NONE, RELU, CLIP, HARD_SIGMOID, HARD_SWISH, SIGMOID, SILU, GELU, TANH, SQRT, LEAKY_RELU };
typedef struct {
  int32_t kind;
  float first, second; /* its parameters */
} Activation;

/* USED_ACTIVATIONS has one bit per kind; the others leave no code. */
INLINE void activate(Floats *v, const int count, const Activation *activation) {
  const Floats first = fill(activation->first), second = fill(activation->second), zero = fill(0.f), one = fill(1.f);
  switch (activation->kind) {
#define CASE(name, expression)                \
  case name:                                  \
    if (!(USED_ACTIVATIONS >> name & 1)) break; \
    UNROLL for (int k = 0; k < count; k++) {  \
      const Floats x = v[k];                  \
      v[k] = (expression);                    \
    }                                         \
    break
    CASE(RELU, larger(x, zero));
    CASE(CLIP, smaller(larger(x, first), second));
    CASE(HARD_SIGMOID, smaller(larger(x * first + second, zero), one));
    CASE(HARD_SWISH, x * smaller(larger(x * (1.f / 6) + 0.5f, zero), one));
    CASE(SIGMOID, sigmoid(x));
    CASE(SILU, x * sigmoid(x));
    CASE(GELU, 0.5f * x * (1.f + error_function(x * 0.70710678f)));
    CASE(TANH, 2.f * sigmoid(2.f * x) - 1.f);
    CASE(SQRT, square_root(x));
    CASE(LEAKY_RELU, choose((Ints)(x < 0.f), first * x, x));
#undef CASE
  }
}
#endif
