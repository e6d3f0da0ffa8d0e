// The steps of a network, run in order. One source for every processor: VW says how many floats a vector has.
#include <ctime>
#include <new>

#include "convolution.h"
#include "maps.h"
#include "products.h"
#include "threads.h"

// The order is that of native.py.
static void run_step(const Step& step, Share share) {
  const void* a = step.arguments;
  switch (step.kind) {
    case 0: return run_convolution(*(const Convolution*)a, step.first, step.last, share);
    case 1: return run_copy(*(const Copy*)a, share);
    case 2: return run_move(*(const Move*)a, share);
    case 3: return run_split(*(const Split*)a, share);
    case 4: return run_max_pool(*(const MaxPool*)a, step.first, step.last, share);
    case 5: return run_binary(*(const Binary*)a, share);
    case 6: return run_resize(*(const Resize*)a, share);
    case 7: return run_mean(*(const Mean*)a, share);
    case 8: return run_product(*(const Product*)a, share);
    case 9: return run_layer_norm(*(const LayerNorm*)a, share);
    case 10: return run_softmax(*(const Softmax*)a, share);
    case 11: return run_strided(*(const Strided*)a, share);
  }
}

static void run_steps(const Step* steps, int count) {
  for (int i = 0; i < count; i++) run_step(steps[i], WHOLE);
}

static double thread_milliseconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1e3 + now.tv_nsec * 1e-6;
}

extern "C" {

int supertickets_vector_width() { return VW; }

Pool* supertickets_new_pool(int threads) { return new (std::nothrow) Pool(threads); }
void supertickets_end_pool(Pool* pool) { delete pool; }

// Run steps on the threads of a pool, or, without one, on the caller's.
void supertickets_run(const Step* steps, int count, Pool* pool) {
  if (pool) pool->run(steps, count);
  else run_steps(steps, count);
}

// Milliseconds of the processor that the steps take: the least of some repeats.
double supertickets_time(const Step* steps, int count, int repeats) {
  double least = 1e30;
  for (int r = 0; r < repeats; r++) {
    const double begin = thread_milliseconds();
    run_steps(steps, count);
    const double taken = thread_milliseconds() - begin;
    if (taken < least) least = taken;
  }
  return least;
}
}
