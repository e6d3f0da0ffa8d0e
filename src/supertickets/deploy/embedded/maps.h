/* Everything else that reads or writes planar maps; see convolution.h for their form. */
#include "vectors.h"

/* The form of a map, or of a plain image, whose pitch is its width. */
typedef struct {
  float *pixels;  /* pixel (0, 0) of the first channel */
  int64_t stride; /* floats from one channel to the next */
  int32_t channels, height, width, pitch;
} Map;

/* Copy pixels; padding stays as it is. Maps may have other pitches. */
typedef struct { Map input, output; } Copy;
static void run_copy(const void *arguments, int first, int last) {
  const Copy *c = arguments;
  (void)first, (void)last;
  for (int channel = 0; channel < c->input.channels; channel++)
    for (int y = 0; y < c->input.height; y++)
      memcpy(c->output.pixels + channel * c->output.stride + (int64_t)y * c->output.pitch,
             c->input.pixels + channel * c->input.stride + (int64_t)y * c->input.pitch, 4 * (size_t)c->input.width);
}

/* Take a map apart by the remainders of row and column: plane (y % step) * step + x % step. `output` has step * step planes
   per channel of the input; pixels of the last row and column of planes that have none are `outside`. */
typedef struct { Map input, output; int32_t step; float outside; } Split;
static void run_split(const void *arguments, int first, int last) {
  const Split *s = arguments;
  (void)first, (void)last;
  const int rows = s->output.height * s->step, columns = s->output.width * s->step;
  const int64_t plane = s->output.stride;
  for (int channel = 0; channel < s->input.channels; channel++) {
    const float *in = s->input.pixels + channel * s->input.stride;
    float *out = s->output.pixels + (int64_t)channel * s->step * s->step * plane;
    for (int y = 0; y < rows; y++) {
      const int within = y < s->input.height ? s->input.width : 0;
      const float *from = in + (int64_t)y * s->input.pitch;
      float *to = out + (y % s->step) * s->step * plane + (int64_t)(y / s->step) * s->output.pitch;
      for (int part = 0; part < s->step; part++, to += plane) {
        int x = part, i = 0;
        for (; x < within; x += s->step) to[i++] = from[x];
        for (; x < columns; x += s->step) to[i++] = s->outside;
      }
    }
  }
}

/* The largest of several pixels. */
typedef struct {
  const float *input;
  float *output;
  const int32_t *offsets;
  const int32_t *inside;
  int64_t in_stride, out_stride;
  int32_t channels, taps;
} MaxPool;
static void run_max_pool(const void *arguments, int first, int last) {
  const MaxPool *m = arguments;
  first *= LINE / VW, last *= LINE / VW;
  for (int channel = 0; channel < m->channels; channel++)
    for (int k = first; k < last; k++) {
      const float *base = m->input + channel * m->in_stride + (int64_t)k * VW;
      Floats most = load(base + m->offsets[0]);
      for (int t = 1; t < m->taps; t++) most = larger(most, load(base + m->offsets[t]));
      store(m->output + channel * m->out_stride + (int64_t)k * VW, keep_inside(most, m->inside + (int64_t)k * VW));
    }
}

/* out = act(a op b) for maps of one form; or b is one number per channel (b_stride 0, b_step 1), or one (b_step 0). */
enum { ADD_BOTH, SUBTRACT, MULTIPLY, DIVIDE, FIRST };
typedef struct {
  const float *a, *b;
  float *output;
  const int32_t *inside;            /* none: all is inside */
  int64_t stride, b_stride, count;  /* floats per channel of a and output, of b; floats to compute per channel */
  int32_t channels, function, b_step, swapped;
  Activation activation;
} Binary;
INLINE Floats combine(int function, Floats a, Floats b) {
  switch (function) {
    case ADD_BOTH: return a + b;
    case SUBTRACT: return a - b;
    case MULTIPLY: return a * b;
    case DIVIDE: return a / b;
    default: return a;
  }
}
static void run_binary(const void *arguments, int first, int last) {
  const Binary *c = arguments;
  (void)first, (void)last;
  for (int channel = 0; channel < c->channels; channel++) {
    const float *a = c->a + channel * c->stride;
    const float *b = c->b_stride ? c->b + channel * c->b_stride : NULL;
    const Floats one = fill(b ? 0.f : c->b[channel * c->b_step]);
    float *out = c->output + channel * c->stride;
    for (int64_t i = 0; i < c->count; i += VW) {
      const Floats x = load(a + i), y = b ? load(b + i) : one;
      Floats v = c->swapped ? combine(c->function, y, x) : combine(c->function, x, y);
      activate(&v, 1, &c->activation);
      if (c->inside) v = keep_inside(v, c->inside + i);
      if (i + VW <= c->count || c->inside) store(out + i, v);
      else memcpy(out + i, &v, 4 * (size_t)(c->count - i));
    }
  }
}

/* Another height and width: every row and column lies between two, with a share of the second. */
typedef struct {
  Map input, output;
  const int32_t *row_low, *row_high, *column_low, *column_high;
  const float *row_share, *column_share;
  float *scratch; /* one row of the input */
} Resize;
static void run_resize(const void *arguments, int first, int last) {
  const Resize *r = arguments;
  (void)first, (void)last;
  for (int channel = 0; channel < r->output.channels; channel++)
    for (int y = 0; y < r->output.height; y++) {
      const float *in = r->input.pixels + channel * r->input.stride;
      const float *low = in + (int64_t)r->row_low[y] * r->input.pitch;
      const float *high = in + (int64_t)r->row_high[y] * r->input.pitch;
      const float *row = low;
      if (r->row_share[y] != 0) {
        const float share = r->row_share[y];
        for (int x = 0; x < r->input.width; x++) r->scratch[x] = low[x] + share * (high[x] - low[x]);
        row = r->scratch;
      }
      float *out = r->output.pixels + channel * r->output.stride + (int64_t)y * r->output.pitch;
      for (int x = 0; x < r->output.width; x++) {
        const float a = row[r->column_low[x]], b = row[r->column_high[x]];
        out[x] = a + r->column_share[x] * (b - a);
      }
    }
}

/* The mean of every channel; padding is zero. */
typedef struct { const float *input; float *output; int64_t stride, count; int32_t channels; float pixels; } Mean;
static void run_mean(const void *arguments, int first, int last) {
  const Mean *m = arguments;
  (void)first, (void)last;
  for (int channel = 0; channel < m->channels; channel++) {
    const float *in = m->input + channel * m->stride;
    double sum = 0; /* of parts, since a float loses digits over a large map */
    int64_t i = 0;
    while (i + VW <= m->count) {
      Floats part = fill(0.f);
      for (int n = 0; n < 512 && i + VW <= m->count; n++, i += VW) part += load(in + i);
      for (int k = 0; k < VW; k++) sum += part[k];
    }
    for (; i < m->count; i++) sum += in[i];
    m->output[channel] = (float)(sum / m->pixels);
  }
}
