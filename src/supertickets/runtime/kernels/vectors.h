// Vectors of VW floats (GCC and Clang vector extensions), and functions of them.
#pragma once
#include <cstdint>

#ifndef VW
#define VW 4  // 4: any processor; 8: AVX2; 16: AVX-512
#endif
#if VW >= 8
#include <immintrin.h>
#endif
// Vectors of 16 also compile for processors without AVX-512, slowly: sanitizers then run there.
#if VW == 16 && defined(__AVX512F__)
#define AVX512 1
#else
#define AVX512 0
#endif
#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

typedef float Floats __attribute__((vector_size(VW * 4)));
typedef float LooseFloats __attribute__((vector_size(VW * 4), aligned(4)));
typedef int32_t Ints __attribute__((vector_size(VW * 4)));
typedef int32_t LooseInts __attribute__((vector_size(VW * 4), aligned(4)));

INLINE Floats load(const float* p) { return (Floats)*(const LooseFloats*)p; }
INLINE void store(float* p, Floats v) { *(LooseFloats*)p = (LooseFloats)v; }
// Store an aligned vector past the caches, which first would load what was there; `end_stores_past` comes after the last.
INLINE void store_past(float* p, Floats v) {
#if AVX512
  _mm512_stream_ps(p, (__m512)v);
#elif VW == 8
  _mm256_stream_ps(p, (__m256)v);
#else
  store(p, v);
#endif
}
INLINE void end_stores_past() {
#if VW >= 8
  _mm_sfence();
#endif
}
INLINE Floats fill(float v) { return v - (Floats){}; }  // + would have to turn -0 into 0
// The first, where it is no number: so it stays visible behind activations.
INLINE Floats larger(Floats a, Floats b) { return a < b ? b : a; }
INLINE Floats smaller(Floats a, Floats b) { return a > b ? b : a; }
// Zero wherever the mask is 0; elsewhere it is -1.
INLINE Floats keep_inside(Floats v, const int32_t* mask) { return (Floats)((Ints)v & (Ints)*(const LooseInts*)mask); }

INLINE float sum_lanes(Floats v) {
  float total = 0;
  for (int i = 0; i < VW; i++) total += v[i];
  return total;
}

template <int N> struct VectorOf {
  typedef float Type __attribute__((vector_size(N * 4)));
  typedef float Loose __attribute__((vector_size(N * 4), aligned(4)));
};
template <int N> using Vector = typename VectorOf<N>::Type;
template <int N> using LooseVector = typename VectorOf<N>::Loose;

// Elements of two vectors by their numbers, those of the second behind those of the first. GCC has Clang's builtin since 12.
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
template <int N> struct NumbersOf { typedef int32_t Type __attribute__((vector_size(N * 4))); };
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (typename NumbersOf<sizeof(a) / 4>::Type){__VA_ARGS__})
#endif

// Elements 0, 2, 4, ... (first = 0) or 1, 3, 5, ... (first = 1) of two vectors.
template <int f> INLINE Vector<4> every_second(Vector<4> a, Vector<4> b) { return SHUFFLE(a, b, f, f + 2, f + 4, f + 6); }
#if VW == 16
template <int f> INLINE Floats every_second(Floats a, Floats b) {
  return SHUFFLE(a, b, f, f + 2, f + 4, f + 6, f + 8, f + 10, f + 12, f + 14, f + 16, f + 18, f + 20, f + 22, f + 24, f + 26,
                 f + 28, f + 30);
}
#elif VW == 8
template <int f> INLINE Floats every_second(Floats a, Floats b) {
  return SHUFFLE(a, b, f, f + 2, f + 4, f + 6, f + 8, f + 10, f + 12, f + 14);
}
#endif

// Elements of a vector by their numbers, modulo VW.
INLINE Floats take(Floats v, Ints numbers) {
#if !defined(__clang__)
  return __builtin_shuffle(v, numbers);
#elif AVX512
  return __builtin_ia32_permvarsf512(v, numbers);
#elif VW == 8
  return __builtin_ia32_permvarsf256(v, numbers);
#else
  Floats out;
  for (int i = 0; i < VW; i++) out[i] = v[numbers[i] & (VW - 1)];
  return out;
#endif
}

#if VW == 16
INLINE Floats load_aligned(const float* p) { return *(const Floats*)p; }
// Elements of two vectors by their numbers, those of the second from 16 on.
INLINE Floats take_of_two(Floats a, Ints numbers, Floats b) {
#if AVX512
  return (Floats)_mm512_permutex2var_ps((__m512)a, (__m512i)numbers, (__m512)b);
#else
  Floats out;
  for (int i = 0; i < VW; i++) out[i] = numbers[i] < VW ? a[numbers[i]] : b[numbers[i] - VW];
  return out;
#endif
}
#endif

// e^x, to about 1e-7 of its value: 2^n by the exponent's bits, 2^f for |f| <= 1/2 by its Taylor polynomial.
INLINE Floats exponential(Floats x) {
  x = smaller(larger(x * 1.44269504f, fill(-126.f)), fill(126.f));
  const Floats rounder = fill(12582912.f);  // 1.5 * 2^23: adding it rounds to a whole number
  Floats whole = (x + rounder) - rounder, f = x - whole;
  Floats p = fill(1.5403530e-4f);
  p = p * f + 1.3333558e-3f;
  p = p * f + 9.6181291e-3f;
  p = p * f + 5.5504109e-2f;
  p = p * f + 2.4022651e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.f;
  Ints exponent = (__builtin_convertvector(whole, Ints) + 127) << 23;
  return p * (Floats)exponent;
}

INLINE Floats sigmoid(Floats x) { return 1.f / (1.f + exponential(-x)); }

// Abramowitz and Stegun, 7.1.26; within 1.5e-7.
INLINE Floats error_function(Floats x) {
  Floats size = larger(x, -x), t = 1.f / (1.f + 0.3275911f * size);
  Floats p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
  Floats out = 1.f - p * exponential(-size * size);
  return x < 0.f ? -out : out;
}

INLINE Floats square_root(Floats x) {
  for (int i = 0; i < VW; i++) x[i] = __builtin_sqrtf(x[i]);
  return x;
}

// The order is that of activations.py.
enum ActivationKind : int32_t { NONE, RELU, CLIP, HARD_SIGMOID, HARD_SWISH, SIGMOID, SILU, GELU, TANH, SQRT, LEAKY_RELU };

struct Activation {
  int32_t kind;
  float first, second;  // its parameters
};

template <int N> INLINE void activate(Floats (&v)[N], const Activation& activation) {
  const Floats first = fill(activation.first), second = fill(activation.second), zero = {}, one = fill(1.f);
#define EACH(expression)                  \
  UNROLL for (int k = 0; k < N; k++) { \
    Floats x = v[k];                     \
    v[k] = (expression);                 \
  }                                      \
  break
  switch (activation.kind) {
    case RELU: EACH(larger(x, zero));
    case CLIP: EACH(smaller(larger(x, first), second));
    case HARD_SIGMOID: EACH(smaller(larger(x * first + second, zero), one));
    case HARD_SWISH: EACH(x * smaller(larger(x * (1.f / 6) + 0.5f, zero), one));
    case SIGMOID: EACH(sigmoid(x));
    case SILU: EACH(x * sigmoid(x));
    case GELU: EACH(0.5f * x * (1.f + error_function(x * 0.70710678f)));
    case TANH: EACH(2.f * sigmoid(2.f * x) - 1.f);
    case SQRT: EACH(square_root(x));
    case LEAKY_RELU: EACH(x < 0.f ? first * x : x);
    default: break;
  }
#undef EACH
}
