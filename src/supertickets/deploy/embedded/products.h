/* Matrix products, norms, softmax and transposition of plain arrays. */
#include "vectors.h"

/* out[m][n] = act(bias[n] + skip[m][n] + sum_k a[m][k] * b[k][n]), for several pairs of matrices. Rows of b may be longer than
   n; behind b lies room for a vector. */
typedef struct {
  const float *a, *b, *bias, *skip;
  float *output;
  int64_t a_stride, b_stride, out_stride; /* floats from one matrix to the next */
  int32_t count, rows, inner, columns, b_pitch;
  Activation activation;
} Product;

/* Up to VW sums of a row of the output: skip, activation. */
INLINE void write_row(float *out, const float *skip, Floats v, int left, const Activation *activation) {
  const size_t bytes = 4 * (size_t)(left < VW ? left : VW);
  if (skip) {
    Floats other = fill(0.f);
    memcpy(&other, skip, bytes);
    v += other;
  }
  activate(&v, 1, activation);
  memcpy(out, &v, bytes);
}
INLINE void product_tile(const Product *p, int64_t matrix, int row, int column, const int R, const int N) {
  Floats sum[16], x[4];
  UNROLL for (int r = 0; r < R; r++) {
    UNROLL for (int k = 0; k < N; k++) sum[r * N + k] = p->bias ? load(p->bias + column + k * VW) : fill(0.f);
  }
  const float *a = p->a + matrix * p->a_stride + (int64_t)row * p->inner;
  const float *b = p->b + matrix * p->b_stride + column;
  for (int i = 0; i < p->inner; i++, b += p->b_pitch) {
    UNROLL for (int k = 0; k < N; k++) x[k] = load(b + k * VW);
    UNROLL for (int r = 0; r < R; r++) {
      UNROLL for (int k = 0; k < N; k++) sum[r * N + k] += a[r * p->inner + i] * x[k];
    }
  }
  UNROLL for (int r = 0; r < R; r++) {
    const int64_t at = matrix * p->out_stride + (int64_t)(row + r) * p->columns + column;
    UNROLL for (int k = 0; k < N; k++) {
      write_row(p->output + at + k * VW, p->skip ? p->skip + at + k * VW : NULL, sum[r * N + k], p->columns - column - k * VW,
                &p->activation);
    }
  }
}
static void run_product(const void *arguments, int first, int last) {
  const Product *p = arguments;
  (void)first, (void)last;
  for (int matrix = 0; matrix < p->count; matrix++)
    for (int column = 0, wide; column < p->columns; column += wide ? 4 * VW : VW) {
      wide = column + 3 * VW < p->columns;
      int row = 0;
      if (wide) {
        for (; row + 4 <= p->rows; row += 4) product_tile(p, matrix, row, column, 4, 4);
        for (; row < p->rows; row++) product_tile(p, matrix, row, column, 1, 4);
      } else {
        for (; row + 4 <= p->rows; row += 4) product_tile(p, matrix, row, column, 4, 1);
        for (; row < p->rows; row++) product_tile(p, matrix, row, column, 1, 1);
      }
    }
}

/* The same with one matrix b of few weights: those of every column, and the steps from one to the next. */
typedef struct {
  const float *a, *bias, *skip;
  float *output;
  const int32_t *begins;
  const uint16_t *steps;
  const float *weights;
  int32_t rows, inner, columns;
  Activation activation;
} SparseProduct;
static void run_sparse_product(const void *arguments, int first, int last) {
  const SparseProduct *p = arguments;
  (void)first, (void)last;
  for (int row = 0; row < p->rows; row++)
    for (int column = 0; column < p->columns; column += VW) {
      const int left = p->columns - column;
      const int64_t at = (int64_t)row * p->columns + column;
      Floats sum = fill(0.f);
      for (int k = 0; k < VW && k < left; k++) {
        const float *a = p->a + (int64_t)row * p->inner;
        float total = p->bias ? p->bias[column + k] : 0.f;
        for (int32_t t = p->begins[column + k]; t < p->begins[column + k + 1]; t++) {
          a += p->steps[t];
          total += *a * p->weights[t];
        }
        sum[k] = total;
      }
      write_row(p->output + at, p->skip ? p->skip + at : NULL, sum, left, &p->activation);
    }
}

/* Rows: values less their mean over their deviation, times scale, plus shift. */
typedef struct { const float *input, *scale, *shift; float *output; int64_t rows; int32_t size; float epsilon; } LayerNorm;
static void run_layer_norm(const void *arguments, int first, int last) {
  const LayerNorm *n = arguments;
  (void)first, (void)last;
  for (int64_t row = 0; row < n->rows; row++) {
    const float *in = n->input + row * n->size;
    float *out = n->output + row * n->size;
    float mean = 0, variance = 0;
    for (int i = 0; i < n->size; i++) mean += in[i];
    mean /= n->size;
    for (int i = 0; i < n->size; i++) variance += (in[i] - mean) * (in[i] - mean);
    const float factor = 1.f / __builtin_sqrtf(variance / n->size + n->epsilon);
    for (int i = 0; i < n->size; i++) out[i] = (in[i] - mean) * factor * n->scale[i] + (n->shift ? n->shift[i] : 0.f);
  }
}

/* Rows: exponentials that sum to one. */
typedef struct { const float *input; float *output; int64_t rows; int32_t size; } Softmax;
static void run_softmax(const void *arguments, int first, int last) {
  const Softmax *s = arguments;
  (void)first, (void)last;
  for (int64_t row = 0; row < s->rows; row++) {
    const float *in = s->input + row * s->size;
    float *out = s->output + row * s->size;
    float most = in[0], total = 0;
    for (int i = 1; i < s->size; i++) most = in[i] > most ? in[i] : most;
    for (int i = 0; i < s->size; i += VW) {
      const int left = s->size - i < VW ? s->size - i : VW;
      Floats x = fill(0.f);
      memcpy(&x, in + i, 4 * (size_t)left);
      x = exponential(x - most);
      for (int k = 0; k < left; k++) total += x[k];
      memcpy(out + i, &x, 4 * (size_t)left);
    }
    for (int i = 0; i < s->size; i++) out[i] *= 1.f / total;
  }
}

/* An array whose axes are in another order, or cut: strides of the input per axis of the output, the last axis last. */
enum { AXES = 6 };
typedef struct { const float *input; float *output; int64_t sizes[AXES], strides[AXES]; } Strided;
static void run_strided(const void *arguments, int first, int last) {
  const Strided *s = arguments;
  (void)first, (void)last;
  float *out = s->output;
  int64_t at[AXES] = {0};
  for (int axis = 0; axis >= 0;) {
    const float *in = s->input;
    for (axis = 0; axis < AXES - 1; axis++) in += at[axis] * s->strides[axis];
    for (int64_t i = 0; i < s->sizes[AXES - 1]; i++) *out++ = in[i * s->strides[AXES - 1]];
    for (axis = AXES - 2; axis >= 0 && ++at[axis] == s->sizes[axis]; axis--) at[axis] = 0;
  }
}
