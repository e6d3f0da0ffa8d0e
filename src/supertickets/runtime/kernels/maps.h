// Everything else that reads or writes planar maps; see convolution.h for their form.
#pragma once
#include <cstring>

#include "threads.h"
#include "vectors.h"

// The form of a map, or of a plain image, whose pitch is its width.
struct Map {
  float* pixels;  // pixel (0, 0) of the first channel
  int64_t stride;  // floats from one channel to the next
  int32_t channels, height, width, pitch;
};

// Copy pixels; padding stays as it is. Maps may have other pitches.
struct Copy { Map in, out; };
static void run_copy(const Copy& c, Share share = WHOLE) {
  for (int64_t channel = share.begin(c.in.channels); channel < share.end(c.in.channels); channel++)
    for (int y = 0; y < c.in.height; y++)
      memcpy(c.out.pixels + channel * c.out.stride + (int64_t)y * c.out.pitch,
             c.in.pixels + channel * c.in.stride + (int64_t)y * c.in.pitch, 4 * (size_t)c.in.width);
}

// Copy whole channels with their padding: a part of a concatenation.
struct Move { const float* in; float* out; int64_t count; };
static void run_move(const Move& m, Share share = WHOLE) {
  const int64_t first = share.begin(m.count);
  memcpy(m.out + first, m.in + first, 4 * (size_t)(share.end(m.count) - first));
}

// Take a map apart by the remainders of row and column: plane (y % step) * step + x % step. `out` has step * step planes per
// channel of the input; pixels of the last row and column of planes that have none are `outside`.
struct Split { Map in, out; int32_t step; float outside; };
// Take pairs of pixels apart, from pair x on, as long as there are whole vectors of them; return the next pair.
template <int N> INLINE int split_pairs(const float* row, float* even, float* odd, int x, int pairs) {
  for (; x + N <= pairs; x += N) {
    const Vector<N> a = *(const LooseVector<N>*)(row + 2 * x), b = *(const LooseVector<N>*)(row + 2 * x + N);
    *(LooseVector<N>*)(even + x) = every_second<0>(a, b);
    *(LooseVector<N>*)(odd + x) = every_second<1>(a, b);
  }
  return x;
}
static void split_row(const Split& s, const float* row, float* out, int64_t plane) {
  const int width = s.in.width;
  int x = 0;
  if (s.step == 2) {
    const int pairs = width / 2;
    int pair = split_pairs<VW>(row, out, out + plane, 0, pairs);
    pair = split_pairs<4>(row, out, out + plane, pair, pairs);  // most of a narrow row
    if (pair < pairs && pairs >= 4) pair = split_pairs<4>(row, out, out + plane, pairs - 4, pairs);  // some twice
    for (; pair < pairs; pair++) out[pair] = row[2 * pair], out[plane + pair] = row[2 * pair + 1];
    x = 2 * pair;
  }
  for (; x < width; x++) out[(x % s.step) * plane + x / s.step] = row[x];
  for (; x % s.step; x++) out[(x % s.step) * plane + x / s.step] = s.outside;
}
static void run_split(const Split& s, Share share = WHOLE) {
  const int64_t plane = s.out.stride;
  for (int64_t channel = share.begin(s.in.channels); channel < share.end(s.in.channels); channel++) {
    const float* in = s.in.pixels + channel * s.in.stride;
    float* out = s.out.pixels + channel * s.step * s.step * plane;
    int y = 0;
    for (; y < s.in.height; y++)
      split_row(s, in + (int64_t)y * s.in.pitch, out + (y % s.step) * s.step * plane + (int64_t)(y / s.step) * s.out.pitch,
                plane);
    for (; y % s.step; y++)
      for (int k = 0; k < s.step; k++)
        for (int x = 0; x < s.out.width; x++)
          out[((y % s.step) * s.step + k) * plane + (int64_t)(y / s.step) * s.out.pitch + x] = s.outside;
  }
}

// The largest of several pixels; `in` has `planes` planes per channel.
struct MaxPool {
  const float* in;
  float* out;
  const int32_t* offsets;
  const int32_t* inside;
  int64_t in_stride, out_stride;
  int32_t channels, taps;
};
static void run_max_pool(const MaxPool& m, int first, int last, Share share = WHOLE) {
  for (int64_t channel = share.begin(m.channels); channel < share.end(m.channels); channel++)
    for (int k = first; k < last; k++) {
      const float* base = m.in + channel * m.in_stride + (int64_t)k * VW;
      Floats most = load(base + m.offsets[0]);
      for (int t = 1; t < m.taps; t++) most = larger(most, load(base + m.offsets[t]));
      store(m.out + channel * m.out_stride + (int64_t)k * VW, keep_inside(most, m.inside + (int64_t)k * VW));
    }
}

// out = act(a op b) for maps of one form; or b is one number per channel (b_stride 0, b_step 1), or one (b_step 0).
enum BinaryKind : int32_t { ADD, SUBTRACT, MULTIPLY, DIVIDE, FIRST };
struct Binary {
  const float* a;
  const float* b;
  float* out;
  const int32_t* inside;  // none: all is inside
  int64_t stride, b_stride, count;  // floats per channel of a and out, of b; floats to compute per channel
  int32_t channels, kind, b_step, swapped;
  Activation activation;
};
INLINE Floats combine(int kind, Floats a, Floats b) {
  switch (kind) {
    case ADD: return a + b;
    case SUBTRACT: return a - b;
    case MULTIPLY: return a * b;
    case DIVIDE: return a / b;
    default: return a;
  }
}
static void run_binary(const Binary& c, Share share = WHOLE) {
  // Of few channels, as of a plain array, every thread takes some vectors.
  const bool across = c.channels < share.count;
  const Share channels = across ? WHOLE : share, pixels = across ? share : WHOLE;
  const int64_t vectors = (c.count + VW - 1) / VW, begin = pixels.begin(vectors) * VW, end = pixels.end(vectors) * VW;
  for (int64_t channel = channels.begin(c.channels); channel < channels.end(c.channels); channel++) {
    const float* a = c.a + channel * c.stride;
    const float* b = c.b_stride ? c.b + channel * c.b_stride : nullptr;
    const Floats one = fill(b ? 0.f : c.b[channel * c.b_step]);
    float* out = c.out + channel * c.stride;
    for (int64_t i = begin; i < end; i += VW) {
      const Floats x = load(a + i), y = b ? load(b + i) : one;
      Floats v[1] = {c.swapped ? combine(c.kind, y, x) : combine(c.kind, x, y)};
      activate(v, c.activation);
      if (c.inside) v[0] = keep_inside(v[0], c.inside + i);
      if (i + VW <= c.count || c.inside) store(out + i, v[0]);
      else memcpy(out + i, v, 4 * (size_t)(c.count - i));
    }
  }
}

// Another height and width: every row and column lies between two, with a share of the second.
struct Resize {
  Map in, out;
  const int32_t *row_low, *row_high, *column_low, *column_high;
  const float *row_share, *column_share;  // tables of columns are filled up to whole vectors
  float* scratch;  // one row of the input for every piece, each on cache lines of its own
  int64_t scratch_stride;
};
// Write a row of pixels between those of a row of the input, behind which one vector more may be read.
INLINE void resize_row(const Resize& r, const float* row, float* out) {
  const int width = r.out.width;
  for (int next = 0; next < width; next += VW) {
    const int x = next + VW <= width || width < VW ? next : width - VW;  // the last vector may compute some again
    const int count = width < VW ? width : VW, begin = r.column_low[x];
    if (r.column_high[x + count - 1] - begin < VW) {
      const Floats from = load(row + begin), share = load(r.column_share + x);
      const Floats a = take(from, (Ints)*(const LooseInts*)(r.column_low + x) - begin);
      const Floats b = take(from, (Ints)*(const LooseInts*)(r.column_high + x) - begin);
      const Floats between = a + share * (b - a);
      if (count == VW) store(out + x, between);
      else memcpy(out + x, &between, 4 * (size_t)count);
    } else {  // made smaller: what lies between is not in one vector
      for (int i = x; i < x + count; i++) {
        const float a = row[r.column_low[i]], b = row[r.column_high[i]];
        out[i] = a + r.column_share[i] * (b - a);
      }
    }
  }
}
static void run_resize(const Resize& r, Share share = WHOLE) {
  float* scratch = r.scratch + (int64_t)share.index * r.scratch_stride;
  const int64_t rows = (int64_t)r.out.channels * r.out.height;
  int64_t at = share.begin(rows);
  while (at < share.end(rows)) {
    const int64_t channel = at / r.out.height;
    const float* in = r.in.pixels + channel * r.in.stride;
    float* before = nullptr;  // the row above, if it lies between the same two
    for (int y = (int)(at % r.out.height); y < r.out.height && at < share.end(rows); y++, at++) {
      float* out = r.out.pixels + channel * r.out.stride + (int64_t)y * r.out.pitch;
      const float part = r.row_share[y];
      if (before && r.row_low[y] == r.row_low[y - 1] && r.row_high[y] == r.row_high[y - 1] && part == r.row_share[y - 1]) {
        memcpy(out, before, 4 * (size_t)r.out.width);
      } else {
        const float* low = in + (int64_t)r.row_low[y] * r.in.pitch;
        const float* high = in + (int64_t)r.row_high[y] * r.in.pitch;
        for (int x = 0; x < r.in.width; x += VW) {
          const Floats a = load(low + x), b = load(high + x);
          store(scratch + x, part == 0 ? a : a + part * (b - a));
        }
        resize_row(r, scratch, out);
      }
      before = out;
    }
  }
}

// The mean of every channel; padding is zero.
struct Mean { const float* in; float* out; int64_t stride, count; int32_t channels; float pixels; };
static void run_mean(const Mean& m, Share share = WHOLE) {
  for (int64_t channel = share.begin(m.channels); channel < share.end(m.channels); channel++) {
    const float* in = m.in + channel * m.stride;
    double sum = 0;  // of parts, since a float loses digits over a large map
    int64_t i = 0;
    while (i + VW <= m.count) {
      Floats part = {};
      for (int k = 0; k < 512 && i + VW <= m.count; k++, i += VW) part += load(in + i);
      sum += sum_lanes(part);
    }
    for (; i < m.count; i++) sum += in[i];
    m.out[channel] = (float)(sum / m.pixels);
  }
}
