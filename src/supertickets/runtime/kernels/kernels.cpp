// The steps of a network, run in order. One source for every processor: VW says how many floats a vector has.
#include <ctime>

#include "convolution.h"
#include "maps.h"
#include "products.h"

struct Step {
  int32_t kind, first, last, unused;  // vectors first to last, of the kinds that run in parts
  const void* arguments;
};

// The order is that of native.py.
static void run_step(const Step& step) {
  const void* a = step.arguments;
  switch (step.kind) {
    case 0: return run_convolution(*(const Convolution*)a, step.first, step.last);
    case 1: return run_copy(*(const Copy*)a);
    case 2: return run_move(*(const Move*)a);
    case 3: return run_split(*(const Split*)a);
    case 4: return run_max_pool(*(const MaxPool*)a, step.first, step.last);
    case 5: return run_binary(*(const Binary*)a);
    case 6: return run_resize(*(const Resize*)a);
    case 7: return run_mean(*(const Mean*)a);
    case 8: return run_product(*(const Product*)a);
    case 9: return run_layer_norm(*(const LayerNorm*)a);
    case 10: return run_softmax(*(const Softmax*)a);
    case 11: return run_strided(*(const Strided*)a);
  }
}

static double thread_milliseconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1e3 + now.tv_nsec * 1e-6;
}

extern "C" {

int supertickets_vector_width() { return VW; }

void supertickets_run(const Step* steps, int count) {
  for (int i = 0; i < count; i++) run_step(steps[i]);
}

// Milliseconds of the processor that the steps take: the least of some repeats.
double supertickets_time(const Step* steps, int count, int repeats) {
  double least = 1e30;
  for (int r = 0; r < repeats; r++) {
    const double begin = thread_milliseconds();
    supertickets_run(steps, count);
    const double taken = thread_milliseconds() - begin;
    if (taken < least) least = taken;
  }
  return least;
}
}
