// Matrix products, norms, softmax and transposition of plain arrays.
#pragma once
#include <cstring>

#include "threads.h"
#include "vectors.h"

// out[m][n] = act(bias[n] + skip[m][n] + sum_k a[m][k] * b[k][n]), for several pairs of matrices. Rows of b may be longer than
// n; behind b lies room for a vector.
struct Product {
  const float *a, *b, *bias, *skip;
  float* out;
  int64_t a_stride, b_stride, out_stride;  // floats from one matrix to the next
  int32_t count, rows, inner, columns, b_pitch;
  Activation activation;
};
template <int R, int N> static void product_tile(const Product& p, int64_t matrix, int row, int column) {
  Floats sum[R][N];
  UNROLL for (int r = 0; r < R; r++) {
    UNROLL for (int k = 0; k < N; k++) sum[r][k] = p.bias ? load(p.bias + column + k * VW) : Floats{};
  }
  const float* a = p.a + matrix * p.a_stride + (int64_t)row * p.inner;
  const float* b = p.b + matrix * p.b_stride + column;
  for (int i = 0; i < p.inner; i++, b += p.b_pitch) {
    Floats x[N];
    UNROLL for (int k = 0; k < N; k++) x[k] = load(b + k * VW);
    UNROLL for (int r = 0; r < R; r++) {
      UNROLL for (int k = 0; k < N; k++) sum[r][k] += a[r * p.inner + i] * x[k];
    }
  }
  for (int r = 0; r < R; r++) {
    const int64_t at = matrix * p.out_stride + (int64_t)(row + r) * p.columns + column;
    for (int k = 0; k < N; k++) {
      const int left = p.columns - column - k * VW;
      Floats v[1] = {sum[r][k]};
      if (p.skip) {
        Floats other = {};
        memcpy(&other, p.skip + at + k * VW, 4 * (size_t)(left < VW ? left : VW));
        v[0] += other;
      }
      activate(v, p.activation);
      memcpy(p.out + at + k * VW, v, 4 * (size_t)(left < VW ? left : VW));
    }
  }
}
template <int N> static void product_columns(const Product& p, int64_t matrix, int column, int row, int end) {
  for (; row + 4 <= end; row += 4) product_tile<4, N>(p, matrix, row, column);
  for (; row < end; row++) product_tile<1, N>(p, matrix, row, column);
}
// Work is shared by tiles of columns of a matrix, or, if these are few, of rows.
static void run_product(const Product& p, Share share = WHOLE) {
  const int wide = p.columns > 3 * VW ? (p.columns - 3 * VW + 4 * VW - 1) / (4 * VW) : 0;  // tiles of four vectors
  const int left = p.columns - wide * 4 * VW, tiles = wide + (left > 0 ? (left + VW - 1) / VW : 0);
  const int64_t work = (int64_t)p.count * tiles;
  const bool by_rows = work < 4 * share.count && p.rows >= 8 * share.count;
  const Share matrices = by_rows ? WHOLE : share;
  const int64_t fours = (p.rows + 3) / 4, end = 4 * (by_rows ? share.end(fours) : fours);
  const int first = (int)(4 * (by_rows ? share.begin(fours) : 0)), last = (int)(end < p.rows ? end : p.rows);
  for (int64_t i = matrices.begin(work); i < matrices.end(work); i++) {
    const int tile = (int)(i % tiles);
    if (tile < wide) product_columns<4>(p, i / tiles, tile * 4 * VW, first, last);
    else product_columns<1>(p, i / tiles, wide * 4 * VW + (tile - wide) * VW, first, last);
  }
}

// Rows: values less their mean over their deviation, times scale, plus shift.
struct LayerNorm { const float *in, *scale, *shift; float* out; int64_t rows; int32_t size; float epsilon; };
static void run_layer_norm(const LayerNorm& n, Share share = WHOLE) {
  for (int64_t row = share.begin(n.rows); row < share.end(n.rows); row++) {
    const float* in = n.in + row * n.size;
    float* out = n.out + row * n.size;
    float mean = 0, variance = 0;
    for (int i = 0; i < n.size; i++) mean += in[i];
    mean /= n.size;
    for (int i = 0; i < n.size; i++) variance += (in[i] - mean) * (in[i] - mean);
    const float factor = 1.f / __builtin_sqrtf(variance / n.size + n.epsilon);
    for (int i = 0; i < n.size; i++) out[i] = (in[i] - mean) * factor * n.scale[i] + (n.shift ? n.shift[i] : 0.f);
  }
}

// Rows: exponentials that sum to one.
struct Softmax { const float* in; float* out; int64_t rows; int32_t size; };
static void run_softmax(const Softmax& s, Share share = WHOLE) {
  for (int64_t row = share.begin(s.rows); row < share.end(s.rows); row++) {
    const float* in = s.in + row * s.size;
    float* out = s.out + row * s.size;
    float most = in[0], total = 0;
    for (int i = 1; i < s.size; i++) most = in[i] > most ? in[i] : most;
    for (int i = 0; i < s.size; i += VW) {
      const int left = s.size - i < VW ? s.size - i : VW;
      Floats x = {};
      memcpy(&x, in + i, 4 * (size_t)left);
      x = exponential(x - most);
      for (int k = 0; k < left; k++) total += x[k];
      memcpy(out + i, &x, 4 * (size_t)left);
    }
    const float factor = 1.f / total;
    for (int i = 0; i < s.size; i++) out[i] *= factor;
  }
}

// An array whose axes are in another order, or cut: strides of the input per axis of the output, the last axis last.
constexpr int AXES = 6;
struct Strided { const float* in; float* out; int64_t sizes[AXES], strides[AXES]; };
static void run_strided(const Strided& s, Share share = WHOLE) {
  int64_t rows = 1, from = 0, at[AXES] = {};
  for (int axis = 0; axis < AXES - 1; axis++) rows *= s.sizes[axis];
  int64_t row = share.begin(rows), rest = row;
  for (int axis = AXES - 2; axis >= 0; rest /= s.sizes[axis], axis--) {
    at[axis] = rest % s.sizes[axis];
    from += at[axis] * s.strides[axis];
  }
  float* out = s.out + row * s.sizes[AXES - 1];
  for (; row < share.end(rows); row++) {
    for (int64_t i = 0; i < s.sizes[AXES - 1]; i++) *out++ = s.in[from + i * s.strides[AXES - 1]];
    for (int axis = AXES - 2; axis >= 0; axis--) {
      from += s.strides[axis];
      if (++at[axis] < s.sizes[axis]) break;
      from -= at[axis] * s.strides[axis];
      at[axis] = 0;
    }
  }
}
