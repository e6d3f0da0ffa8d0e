// Convolution of planar maps by a list of taps: out[o][i] = act(bias[o] + skip[o][i] + sum_t weight_t[o] * in[offset_t + i]).
//
// A map has rows of W pixels and some columns of zeros behind them, and rows of zeros above and below, so that a kernel
// position is one offset for all pixels, and borders need no code. Zero weights have no tap. `block` neighbouring output
// channels share their taps, and with them every vector that is loaded.
#pragma once
#include <utility>

#include "threads.h"
#include "vectors.h"

struct Convolution {
  const float* in;         // pixel (0, 0) of the first channel
  float* out;
  const float* skip;       // a map of the output's form, or none
  const int32_t* begins;   // first tap of every block, and the end of the last
  const int32_t* offsets;  // of every tap
  const float* weights;    // `block` of every tap
  const float* bias;
  const int32_t* inside;   // -1 for pixels, 0 for padding
  int64_t out_stride;      // floats from one channel to the next
  int32_t blocks, block;
  int32_t aligned;         // whether all offsets are multiples of VW
  int32_t past;            // whether the output goes to memory past the caches
  Activation activation;
};

// The registers hold about `BUDGET` sums.
#if VW == 16
constexpr int BUDGET = 24;
#else
constexpr int BUDGET = 12;
#endif
constexpr int64_t KEPT = 1 << 16;  // weights and offsets that stay in the second cache beside maps
constexpr int tile_vectors(int block) {
  if (block == 2) return BUDGET * 5 / 12;  // the vectors that are loaded need registers as well
  return block >= 16 ? 1 : BUDGET / block > 12 ? 12 : BUDGET / block;
}

// Add skip, activate, zero the padding, store.
template <int N> INLINE void finish(const Convolution& c, Floats (&sum)[N], int channel, int first) {
  const int64_t at = channel * c.out_stride + (int64_t)first * VW;
  if (c.skip) {
    UNROLL for (int k = 0; k < N; k++) sum[k] += load(c.skip + at + k * VW);
  }
  activate(sum, c.activation);
  UNROLL for (int k = 0; k < N; k++) sum[k] = keep_inside(sum[k], c.inside + (int64_t)(first + k) * VW);
  if (c.past) {
    UNROLL for (int k = 0; k < N; k++) store_past(c.out + at + k * VW, sum[k]);
  } else {
    UNROLL for (int k = 0; k < N; k++) store(c.out + at + k * VW, sum[k]);
  }
}

// One block of B channels, N vectors. Few sums are kept several times, so that they need not wait for each other.
template <int B, int N> INLINE void convolve_tile(const Convolution& c, int block, int first) {
  constexpr int COPIES = B * N >= 8 ? 1 : B * N >= 4 ? 2 : 4;
  Floats sum[COPIES * B][N];
  UNROLL for (int b = 0; b < COPIES * B; b++) {
    const Floats start = b < B ? fill(c.bias[block * B + b]) : Floats{};
    UNROLL for (int k = 0; k < N; k++) sum[b][k] = start;
  }
  const float* base = c.in + (int64_t)first * VW;
  int tap = c.begins[block];
  const int end = c.begins[block + 1];
  auto add_tap = [&](int copy, int t) __attribute__((always_inline)) {
    const float* pixels = base + c.offsets[t];
    const float* weight = c.weights + (int64_t)t * B;
    Floats x[N];
    UNROLL for (int k = 0; k < N; k++) x[k] = load(pixels + k * VW);
    UNROLL for (int b = 0; b < B; b++) {
      const Floats w = fill(weight[b]);
      UNROLL for (int k = 0; k < N; k++) sum[copy * B + b][k] += w * x[k];
    }
  };
  for (; tap + COPIES <= end; tap += COPIES) {
    UNROLL for (int u = 0; u < COPIES; u++) add_tap(u, tap + u);
  }
  for (; tap < end; tap++) add_tap(0, tap);
  UNROLL for (int b = B; b < COPIES * B; b++) {
    UNROLL for (int k = 0; k < N; k++) sum[b % B][k] += sum[b][k];
  }
  UNROLL for (int b = 0; b < B; b++) finish<N>(c, sum[b], block * B + b, first);
}

#if VW == 16
// One channel, N vectors: vectors that cross cache lines are put together from aligned ones, which is faster.
template <int N> INLINE void convolve_shifted_tile(const Convolution& c, int block, int first) {
  constexpr int COPIES = N >= 8 ? 1 : N >= 4 ? 2 : 4;
  Floats sum[COPIES][N];
  UNROLL for (int u = 0; u < COPIES; u++) {
    UNROLL for (int k = 0; k < N; k++) sum[u][k] = u ? Floats{} : fill(c.bias[block]);
  }
  const float* base = c.in + (int64_t)first * VW;
  const Ints lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  auto add_tap = [&](int copy, int t) __attribute__((always_inline)) {
    const int offset = c.offsets[t];
    const Ints from = lanes + (offset & 15);
    const float* pixels = base + (offset & ~15);
    const Floats w = fill(c.weights[t]);
    Floats low = load_aligned(pixels);
    UNROLL for (int k = 0; k < N; k++) {
      const Floats high = load_aligned(pixels + 16 * (k + 1));
      sum[copy][k] += w * take_of_two(low, from, high);
      low = high;
    }
  };
  int tap = c.begins[block];
  const int end = c.begins[block + 1];
  for (; tap + COPIES <= end; tap += COPIES) {
    UNROLL for (int u = 0; u < COPIES; u++) add_tap(u, tap + u);
  }
  for (; tap < end; tap++) add_tap(0, tap);
  UNROLL for (int u = 1; u < COPIES; u++) {
    UNROLL for (int k = 0; k < N; k++) sum[0][k] += sum[u][k];
  }
  finish<N>(c, sum[0], block, first);
}
template <int N> static void shifted_tile(const Convolution& c, int first, int block, int end) {
  for (; block < end; block++) convolve_shifted_tile<N>(c, block, first);
}
#endif

template <int B, int N> static void plain_tile(const Convolution& c, int first, int block, int end) {
  for (; block < end; block++) convolve_tile<B, N>(c, block, first);
}

// The functions for tiles of 1, 2, ... vectors, of some blocks.
typedef void (*Tile)(const Convolution&, int first, int block, int end);
template <int B, int... N> static const Tile* plain_tiles(std::integer_sequence<int, N...>) {
  static constexpr Tile table[] = {plain_tile<B, N + 1>...};
  return table;
}
#if VW == 16
template <int... N> static const Tile* shifted_tiles(std::integer_sequence<int, N...>) {
  static constexpr Tile table[] = {shifted_tile<N + 1>...};
  return table;
}
#endif

// The work before a block, in products per pixel.
INLINE int64_t work_before(const Convolution& c, int block) { return (int64_t)(c.begins[block] - c.begins[0]) + 4 * block; }

// The first block before which some work has been done.
static int find_block(const Convolution& c, int64_t work) {
  int low = 0, high = c.blocks;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (work_before(c, middle) < work) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Where a piece of the work begins: at a tile, and there at a block.
struct Cut { int tile, block; };
static Cut cut(const Convolution& c, int tiles, int index, int count) {
  if (index == count) return {tiles, 0};
  const int64_t all = work_before(c, c.blocks), target = tiles * all * index / count;
  return {(int)(target / all), find_block(c, target % all)};
}

// Tiles of some vectors, all channels of one tile before the next, so that its inputs stay in the first cache.
static void run_tiles(const Convolution& c, const Tile* table, int most, int first, int last, Share share) {
  if (c.blocks == 0) return;
  const int tiles = (last - first + most - 1) / most;
  auto run = [&](Cut begin, Cut end) {
    for (int t = 0, at = first; t < tiles && t <= end.tile; t++) {
      const int vectors = (last - at + tiles - t - 1) / (tiles - t);
      if (t >= begin.tile) table[vectors - 1](c, at, t == begin.tile ? begin.block : 0, t == end.tile ? end.block : c.blocks);
      at += vectors;
    }
  };
  const int64_t weights = (int64_t)(c.begins[c.blocks] - c.begins[0]) * (c.block + 1);
  if (weights <= KEPT) return run(cut(c, tiles, share.index, share.count), cut(c, tiles, share.index + 1, share.count));
  // Many weights: some channels of all tiles before the next, so that their weights stay in the second cache.
  const int64_t all = work_before(c, c.blocks);
  const int end = find_block(c, all * (share.index + 1) / share.count);
  for (int block = find_block(c, all * share.index / share.count); block < end;) {
    int next = find_block(c, work_before(c, block) + all * KEPT / weights);
    next = next <= block ? block + 1 : next < end ? next : end;
    for (int t = 0, at = first; t < tiles; t++) {
      const int vectors = (last - at + tiles - t - 1) / (tiles - t);
      table[vectors - 1](c, at, block, next);
      at += vectors;
    }
    block = next;
  }
}

template <int B> static void run_blocks(const Convolution& c, int first, int last, Share share) {
  constexpr int most = tile_vectors(B);
  run_tiles(c, plain_tiles<B>(std::make_integer_sequence<int, most>()), most, first, last, share);
}

static void run_in_blocks(const Convolution& c, int first, int last, Share share) {
  switch (c.block) {
    case 16: return run_blocks<16>(c, first, last, share);
    case 8: return run_blocks<8>(c, first, last, share);
    case 4: return run_blocks<4>(c, first, last, share);
    case 2: return run_blocks<2>(c, first, last, share);
  }
#if VW == 16
  if (!c.aligned) return run_tiles(c, shifted_tiles(std::make_integer_sequence<int, 12>()), 12, first, last, share);
#endif
  run_blocks<1>(c, first, last, share);
}

static void run_convolution(const Convolution& c, int first, int last, Share share = WHOLE) {
  run_in_blocks(c, first, last, share);
  if (c.past) end_stores_past();
}
