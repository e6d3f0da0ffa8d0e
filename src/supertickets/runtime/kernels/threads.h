// A few threads that run a table of steps together; between two tables they wait for a moment, then sleep.
//
// A step is cut into pieces, which whoever is free takes. So nobody waits for a thread that the system lets wait, unless
// it holds a piece. The pieces compute the same numbers whoever takes them, and as many as there are.
#pragma once
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <atomic>
#include <cstdint>

struct Step {
  int32_t kind, first, last;  // vectors first to last, of the kinds that run in parts
  int32_t pieces;             // that it may be cut into; 0: it runs as a whole, at the same time as the step before it
  const void* arguments;
};

// One piece of a step.
struct Share {
  int index, count;
  int64_t begin(int64_t items) const { return items * index / count; }
  int64_t end(int64_t items) const { return items * (index + 1) / count; }
};
constexpr Share WHOLE = {0, 1};
static void run_step(const Step& step, Share share);

static inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

constexpr int MOST_PIECES = 32;

// Steps that may run at the same time: one that is cut into pieces, some as a whole, or some that one thread runs in order.
struct Group {
  int begin, end, pieces;
  bool cut;
};
static Group next_group(const Step* steps, int count, int begin) {
  int end = begin + 1;
  if (end < count && steps[end].pieces == 0) {
    while (end < count && steps[end].pieces == 0 && end - begin < MOST_PIECES) end++;
    return {begin, end, end - begin, false};
  }
  if (steps[begin].pieces > 1) return {begin, end, steps[begin].pieces < MOST_PIECES ? steps[begin].pieces : MOST_PIECES, true};
  while (end < count && steps[end].pieces == 1 && (end + 1 == count || steps[end + 1].pieces != 0)) end++;
  return {begin, end, 1, false};
}
static void run_piece(const Step* steps, const Group& group, int piece) {
  if (group.cut) return run_step(steps[group.begin], {piece, group.pieces});
  if (group.pieces > 1) return run_step(steps[group.begin + piece], WHOLE);
  for (int i = group.begin; i < group.end; i++) run_step(steps[i], WHOLE);
}

class Pool {
 public:
  // Threads in all, the caller's among them; the system may give fewer.
  explicit Pool(int threads) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the caller's threads
    for (; count_ < threads && count_ < MOST_PIECES; count_++) {
      workers_[count_] = {this, count_, {}};
      if (pthread_create(&workers_[count_].thread, nullptr, start, &workers_[count_]) != 0) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  ~Pool() {
    pthread_mutex_lock(&busy_);
    ended_.store(true, std::memory_order_release);
    wake_all();
    for (int i = 1; i < count_; i++) pthread_join(workers_[i].thread, nullptr);
    pthread_mutex_unlock(&busy_);
  }

  // Run steps on all threads; on the caller's alone while another caller has them.
  void run(const Step* steps, int count) {
    if (count_ == 1 || count == 0 || pthread_mutex_trylock(&busy_) != 0) {
      for (int i = 0; i < count; i++) run_step(steps[i], WHOLE);
      return;
    }
    steps_ = steps;
    steps_count_ = count;
    running_.store(true, std::memory_order_release);
    offer(0);
    wake_all();
    for (int spins = 0; running_.load(std::memory_order_acquire);) take_piece(0) ? (void)(spins = 0) : rest(++spins);
    pthread_mutex_unlock(&busy_);
  }

 private:
  static constexpr int SPINS = 2000;  // some ten microseconds
  struct Worker {
    Pool* pool;
    int index;
    pthread_t thread;
  };

  static void rest(int spins) { spins < SPINS ? relax() : (void)sched_yield(); }

  // Offer the pieces of the steps from one on; `offer_` has a number that goes up, and a bit for every piece to take.
  void offer(int begin) {
    group_ = next_group(steps_, steps_count_, begin);
    left_.store(group_.pieces, std::memory_order_relaxed);
    const uint64_t bits = group_.pieces == 32 ? 0xffffffffu : (1u << group_.pieces) - 1;
    offer_.store((((offer_.load(std::memory_order_relaxed) >> 32) + 1) << 32) | bits, std::memory_order_release);
  }

  // Take a piece and run it; false if there is none. A thread prefers the same pieces of every step, whose neighbours in the
  // steps before are in its cache.
  bool take_piece(int index) {
    uint64_t now = offer_.load(std::memory_order_acquire);
    int piece;
    do {
      const uint32_t bits = (uint32_t)now;
      if (!bits) return false;
      // Rotated so that the search starts at the thread's own part of what is left.
      const int from = __builtin_popcount(bits) * index / count_;
      uint32_t rest_of = bits;
      for (int i = 0; i < from; i++) rest_of &= rest_of - 1;
      piece = __builtin_ctz(rest_of);
    } while (!offer_.compare_exchange_weak(now, now & ~(1ull << piece), std::memory_order_acq_rel, std::memory_order_acquire));
    run_piece(steps_, group_, piece);
    if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      if (group_.end < steps_count_) offer(group_.end);
      else running_.store(false, std::memory_order_release);
    }
    return true;
  }

  void wake_all() {
    pthread_mutex_lock(&sleep_);
    if (asleep_) pthread_cond_broadcast(&wake_);
    pthread_mutex_unlock(&sleep_);
  }

  static void* start(void* worker) {
    const Worker& w = *(const Worker*)worker;
    w.pool->serve(w.index);
    return nullptr;
  }

  void serve(int index) {
    int spins = 0;
    while (!ended_.load(std::memory_order_acquire)) {
      if (take_piece(index)) {
        spins = 0;
      } else if (spins < SPINS || running_.load(std::memory_order_acquire)) {
        rest(++spins);
      } else {
        pthread_mutex_lock(&sleep_);
        asleep_++;
        while (!ended_.load(std::memory_order_acquire) && !running_.load(std::memory_order_acquire))
          pthread_cond_wait(&wake_, &sleep_);
        asleep_--;
        pthread_mutex_unlock(&sleep_);
        spins = 0;
      }
    }
  }

  Worker workers_[MOST_PIECES];
  int count_ = 1, asleep_ = 0;
  pthread_mutex_t busy_ = PTHREAD_MUTEX_INITIALIZER, sleep_ = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t wake_ = PTHREAD_COND_INITIALIZER;
  const Step* steps_ = nullptr;
  int steps_count_ = 0;
  Group group_ = {};
  alignas(64) std::atomic<uint64_t> offer_{0};
  alignas(64) std::atomic<int> left_{0};
  alignas(64) std::atomic<bool> running_{false};
  std::atomic<bool> ended_{false};
};
