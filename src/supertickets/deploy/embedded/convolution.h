/* Convolution of planar maps by a list of taps, the weights that are not zero:
   out[o][i] = act(bias[o] + skip[o][i] + sum_t weight_t[o] * in[offset_t + i]).

   A map has rows of pixels and some columns of zeros behind them, and rows of zeros above and below, so that a kernel
   position is one offset for all pixels, and borders need no code. Neighbouring output channels share the taps of their block;
   `steps` lead from one tap to the next. */
#include "vectors.h"

typedef struct {
  const float *input; /* pixel (0, 0) of the first channel */
  float *output;
  const float *skip;      /* a map of the output's form, or none */
  const int32_t *begins;  /* first tap of every block, and the end of the last */
  const int32_t *starts;  /* of every block, where its first step starts */
  const uint16_t *steps;  /* of every tap */
  const float *weights;   /* of every tap, one per channel of its block */
  const float *bias;
  const int32_t *inside; /* -1 for pixels, 0 for padding */
  int64_t out_stride;    /* floats from one channel to the next */
  int32_t blocks;
  Activation activation;
} Convolution;

enum { LONGEST = 12 }; /* vectors of a tile */
/* Vectors of a tile for which the registers hold those loaded, the sums of B channels, and a weight. */
#define MOST(B) ((REGISTERS - 1) / ((B) + 1) > LONGEST ? LONGEST : (REGISTERS - 1) / ((B) + 1) < 1 ? 1 : (REGISTERS - 1) / ((B) + 1))

/* Activations other than ReLU, of what a tile has stored. */
static __attribute__((noinline)) void activate_stored(const Convolution *c, float *out, const int32_t *inside, int vectors) {
  for (int k = 0; k < vectors; k++) {
    Floats v = load(out + k * VW);
    activate(&v, 1, &c->activation);
    store(out + k * VW, keep_inside(v, inside + k * VW));
  }
}

/* Add skip, activate, zero the padding, store. */
INLINE void finish(const Convolution *c, Floats *sum, int channel, int first, const int N) {
  const int64_t at = channel * c->out_stride + (int64_t)first * VW;
  const int32_t *inside = c->inside + (int64_t)first * VW;
  const Floats floor = fill(c->activation.kind == RELU ? 0.f : -__builtin_inff());
  if (c->skip) {
    UNROLL for (int k = 0; k < N; k++) sum[k] += load(c->skip + at + k * VW);
  }
  UNROLL for (int k = 0; k < N; k++) {
    store(c->output + at + k * VW, keep_inside(larger(sum[k], floor), inside + k * VW));
  }
  if (c->activation.kind > RELU) activate_stored(c, c->output + at, inside, N);
}

INLINE void add_tap(Floats *sum, const float *pixels, const float *weights, const int B, const int N) {
  Floats x[LONGEST];
  UNROLL for (int k = 0; k < N; k++) {
    x[k] = load(pixels + k * VW);
    if (B > 1) KEEP_IN_REGISTER(x[k]);
  }
  UNROLL for (int b = 0; b < B; b++) {
    const Floats w = fill(weights[b]);
    UNROLL for (int k = 0; k < N; k++) sum[b * N + k] += w * x[k];
  }
}

/* The same for one channel: with AVX-512 vectors that cross cache lines are put together from aligned ones, which is faster. */
INLINE void add_shifted_tap(Floats *sum, const float *pixels, const float *weights, const int N) {
#if VW == 16
  const int offset = (int)((uintptr_t)pixels / 4 & 15);
  const Ints lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const __m512i from = (__m512i)(lanes + offset);
  const __m512 w = _mm512_set1_ps(*weights);
  pixels -= offset;
  __m512 low = _mm512_load_ps(pixels);
  UNROLL for (int k = 0; k < N; k++) {
    const __m512 high = _mm512_load_ps(pixels + 16 * (k + 1));
    sum[k] = (Floats)_mm512_fmadd_ps(w, _mm512_permutex2var_ps(low, from, high), (__m512)sum[k]);
    low = high;
  }
#else
  add_tap(sum, pixels, weights, 1, N);
#endif
}

/* One block of B channels, N vectors. Few sums are kept several times, so that they need not wait for each other. */
INLINE void convolve_block(const Convolution *c, int block, int first, const int B, const int N, const int shifted) {
  const int copies = B * N >= 8 ? 1 : B * N >= 4 ? 2 : 4;
  Floats sum[28];
  UNROLL for (int b = 0; b < copies * B; b++) {
    const Floats start = b < B ? fill(c->bias[block * B + b]) : fill(0.f);
    UNROLL for (int k = 0; k < N; k++) sum[b * N + k] = start;
  }
  const float *pixels = c->input + (int64_t)first * VW + c->starts[block];
  const uint16_t *step = c->steps + c->begins[block];
  const float *weights = c->weights + (int64_t)c->begins[block] * B;
  const uint16_t *const end = c->steps + c->begins[block + 1];
#define ADD(copy)                                                              \
  do {                                                                         \
    pixels += *step++;                                                         \
    if (shifted) add_shifted_tap(sum + (copy) * B * N, pixels, weights, N);    \
    else add_tap(sum + (copy) * B * N, pixels, weights, B, N);                 \
    weights += B;                                                              \
  } while (0)
  for (; end - step >= copies; ) { /* copies is 1, 2 or 4 */
    ADD(0);
    if (copies > 1) ADD(1);
    if (copies > 2) ADD(2);
    if (copies > 2) ADD(3);
  }
  while (step < end) ADD(0);
#undef ADD
  UNROLL for (int b = B; b < copies * B; b++) {
    UNROLL for (int k = 0; k < N; k++) sum[b % B * N + k] += sum[b * N + k];
  }
  UNROLL for (int b = 0; b < B; b++) finish(c, sum + b * N, block * B + b, first, N);
}

/* The vectors of the next tile: those that are left in equal parts of up to `most`, as far as there is code for it. */
INLINE int tile_vectors(int left, const int most) {
  static const int sizes[LONGEST + 1] = {0, 1, 2, 3, 4, 5, 6, 8, 8, 10, 10, 12, 12};
  const int tiles = (left + most - 1) / most;
  int vectors = sizes[(left + tiles - 1) / tiles];
  while (vectors > left || vectors > most) vectors = sizes[vectors - 1] < vectors ? vectors - 1 : vectors - 2;
  return vectors;
}

/* All channels of one tile before the next, so that its inputs stay in the first cache. */
INLINE void convolve(const Convolution *c, int first, int last, const int B, const int shifted) {
  const int most = MOST(B);
  first *= LINE / VW, last *= LINE / VW;
  for (int vectors; first < last; first += vectors) {
    vectors = tile_vectors(last - first, most);
    for (int block = 0; block < c->blocks; block++) {
      switch (vectors) {
#define CASE(N)                                                                    \
  case N:                                                                          \
    if (N <= most) convolve_block(c, block, first, B, N <= most ? N : 1, shifted); \
    break
        CASE(1); CASE(2); CASE(3); CASE(4); CASE(5); CASE(6); CASE(8); CASE(10); CASE(12);
#undef CASE
      }
    }
  }
}

static void run_convolution_16(const void *c, int first, int last) { convolve(c, first, last, 16, 0); }
static void run_convolution_8(const void *c, int first, int last) { convolve(c, first, last, 8, 0); }
static void run_convolution_4(const void *c, int first, int last) { convolve(c, first, last, 4, 0); }
static void run_convolution_2(const void *c, int first, int last) { convolve(c, first, last, 2, 0); }
static void run_convolution_1(const void *c, int first, int last) { convolve(c, first, last, 1, 0); }
static void run_convolution_shifted(const void *c, int first, int last) { convolve(c, first, last, 1, 1); }
