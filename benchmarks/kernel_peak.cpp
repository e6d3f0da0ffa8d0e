// What a core can do at most: products with sums in registers, vectors loaded from the first cache, bytes from memory.
#include <ctime>

#include "vectors.h"

#if VW == 16
#define REGISTER(value) "v"(value)
#elif defined(__SSE2__)
#define REGISTER(value) "x"(value)
#else
#define REGISTER(value) "w"(value)
#endif

static double seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}
static void keep(Floats v) { asm volatile("" : : "m"(v)); }

extern "C" {

int vector_width() { return VW; }

// Floats that are multiplied and added per second.
double product_rate(int64_t repeats) {
  constexpr int SUMS = VW == 16 ? 24 : 12;
  Floats sum[SUMS] = {}, x = fill(1.0001f), w = fill(0.9999f);
  const double begin = seconds();
  for (int64_t i = 0; i < repeats; i++) {
    asm volatile("" : "+" REGISTER(x), "+" REGISTER(w));  // so that their product is not made in front of the loop
    UNROLL for (int k = 0; k < SUMS; k++) {
      sum[k] += x * w;
      asm volatile("" : "+" REGISTER(sum[k]));  // so that they are not taken for one
    }
  }
  const double taken = seconds() - begin;
  UNROLL for (int k = 0; k < SUMS; k++) keep(sum[k]);
  return (double)repeats * SUMS * VW / taken;
}

// Floats per second that are loaded from 16 kB, `offset` floats behind the begin of a line.
double load_rate(const float* values, int offset, int64_t repeats) {
  const double begin = seconds();
  for (int64_t i = 0; i < repeats; i++) {
    const float* p = values + offset;
    for (int at = 0; at < 4096 - 32; at += 8 * VW) {
      UNROLL for (int k = 0; k < 8; k++) {
        Floats v = load(p + at + k * VW);
        asm volatile("" : : REGISTER(v));
      }
    }
  }
  const int loaded = (4096 - 32 + 8 * VW - 1) / (8 * VW) * 8 * VW;
  return (double)repeats * loaded / (seconds() - begin);
}

// Bytes per second that are read from an array, over and over.
double read_rate(const float* values, int64_t count, int repeats) {
  Floats sum[8] = {};
  const double begin = seconds();
  for (int r = 0; r < repeats; r++) {
    for (int64_t at = 0; at + 8 * VW <= count; at += 8 * VW) {
      UNROLL for (int k = 0; k < 8; k++) sum[k] += load(values + at + k * VW);
    }
  }
  const double rate = 4.0 * count * repeats / (seconds() - begin);
  UNROLL for (int k = 0; k < 8; k++) keep(sum[k]);
  return rate;
}
}
