// The part of CUDA that the operator's kernels use, executed on a CPU: blocks, warps, barriers, shuffles.
//
// A thread of the grid is a fiber (ucontext). The fibers of a block take turns on the calling thread, each as
// far as its next barrier or shuffle; blocks come one after the other. POSE_EMULATED_ORDER is the order of the
// turns: `forward`, `backward`, or a number, the seed of a random one. A result that depends on it is a race.
//
// What a GPU answers with a hang or with wrong numbers ends the process with a line: a barrier that some
// threads of the block do not reach, a shuffle whose mask names a lane that is elsewhere. A launch outside a
// GPU's limits is an error of cudaGetLastError; so is any if POSE_EMULATED_REFUSED is set, as on a GPU that the
// kernels were not compiled for.
//
// The address sanitizer is told of the fibers' stacks. To the thread sanitizer every fiber is a thread, and
// only launches and barriers order two of them: it finds races in global memory, within a block and between
// blocks. A shuffle orders nothing (CUDA's programming guide: warp shuffle functions imply no memory barrier).
#pragma once

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <utility>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define EMULATED_ASAN(...) __VA_ARGS__
#else
#define EMULATED_ASAN(...)
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#define EMULATED_TSAN(...) __VA_ARGS__
#define EMULATED_UNSEEN __attribute__((no_sanitize("thread")))  // the scheduler is no part of the program
#else
#define EMULATED_TSAN(...)
#define EMULATED_UNSEEN
#endif

#define __global__
#define __device__
#define __launch_bounds__(threads)

struct dim3 {
  unsigned x, y = 1, z = 1;
  dim3(unsigned x = 1) : x(x) {}
};

struct __attribute__((aligned(16), may_alias)) uint4 {
  unsigned x, y, z, w;
};
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidConfiguration = 9, cudaErrorNoKernelImageForDevice = 209 };

namespace emulated {

constexpr unsigned kLanes = 32, kMostThreads = 1024, kMostBlocks = 2147483647;
constexpr size_t kStack = 64 << 10;

enum State { kRuns, kBarrier, kShuffle, kEnded };

struct Thread {
  ucontext_t context;
  State state;
  unsigned mask, source;  // of the shuffle in which it waits
  uint64_t value;         // that it gives, then that it gets
  void *fake_stack, *fiber;
};

// The launch that runs. Plain memory: containers would be seen by the thread sanitizer.
struct Grid {
  dim3 blocks, threads, block, thread;
  Thread* all = nullptr;
  char* region = nullptr;  // an address for each barrier, then the stacks
  size_t region_size = 0;
  unsigned barriers = 0;  // that the block has passed
  ucontext_t host;
  void (*kernel)(const void*) = nullptr;
  const void* arguments = nullptr;
  cudaError_t error = cudaSuccess;
  void *host_fake_stack = nullptr, *host_fiber = nullptr;
  const void* host_bottom = nullptr;
  size_t host_size = 0;
  char begin = 0, end = 0;  // addresses by which the thread sanitizer is told of order
};
inline thread_local Grid grid;

[[noreturn]] EMULATED_UNSEEN inline void fail(const char* what) {
  static const char* const kNames[] = {"running", "at a barrier", "in a shuffle", "at its end"};
  std::fprintf(stderr, "emulated CUDA: block %u: %s\n", grid.block.x, what);
  for (unsigned t = 0; t < grid.threads.x; ++t) {
    if (t > 0 && grid.all[t].state == grid.all[t - 1].state) continue;
    std::fprintf(stderr, "  from thread %u on: %s\n", t, kNames[grid.all[t].state]);
  }
  std::_Exit(70);
}

inline char* stack_of(unsigned t) { return grid.region + (t + 1) * kStack; }

// The thread goes on, until it stops again.
EMULATED_UNSEEN inline void resume(unsigned t) {
  grid.thread.x = t;
  EMULATED_ASAN(__sanitizer_start_switch_fiber(&grid.host_fake_stack, stack_of(t), kStack);)
  EMULATED_TSAN(__tsan_switch_to_fiber(grid.all[t].fiber, __tsan_switch_to_fiber_no_sync);)
  swapcontext(&grid.host, &grid.all[t].context);
  EMULATED_ASAN(__sanitizer_finish_switch_fiber(grid.host_fake_stack, nullptr, nullptr);)
}

// The running thread stops in this state.
EMULATED_UNSEEN inline void stop(State state) {
  Thread& thread = grid.all[grid.thread.x];
  thread.state = state;
  EMULATED_ASAN(__sanitizer_start_switch_fiber(state == kEnded ? nullptr : &thread.fake_stack,
                                               grid.host_bottom, grid.host_size);)
  EMULATED_TSAN(__tsan_switch_to_fiber(grid.host_fiber, __tsan_switch_to_fiber_no_sync);)
  swapcontext(&thread.context, &grid.host);
  EMULATED_ASAN(__sanitizer_finish_switch_fiber(thread.fake_stack, nullptr, nullptr);)
}

EMULATED_UNSEEN inline void run_thread() {
  EMULATED_ASAN(__sanitizer_finish_switch_fiber(nullptr, &grid.host_bottom, &grid.host_size);)
  EMULATED_TSAN(__tsan_acquire(&grid.begin);)
  grid.kernel(grid.arguments);
  EMULATED_TSAN(__tsan_release(&grid.end);)
  stop(kEnded);
}

// Shuffles of a warp whose lanes have all stopped: each lane of the mask must have come with that mask.
EMULATED_UNSEEN inline bool exchange(Thread* warp, unsigned lanes) {
  bool any = false;
  uint64_t given[kLanes];
  for (unsigned lane = 0; lane < lanes; ++lane) given[lane] = warp[lane].value;
  for (unsigned lane = 0; lane < lanes; ++lane) {
    Thread& thread = warp[lane];
    if (thread.state != kShuffle) continue;
    any = true;
    if (!(thread.mask >> lane & 1)) fail("a lane calls a shuffle whose mask leaves it out");
    if (!(thread.mask >> thread.source & 1)) fail("a shuffle reads a lane that its mask leaves out");
    for (unsigned other = 0; other < kLanes; ++other) {
      if (!(thread.mask >> other & 1)) continue;
      if (other >= lanes || warp[other].state != kShuffle) fail("a shuffle's mask names a lane that is not in it");
      if (warp[other].mask != thread.mask) fail("lanes call one shuffle with different masks");
    }
    thread.value = given[thread.source];
  }
  for (unsigned lane = 0; lane < lanes; ++lane) {
    if (warp[lane].state == kShuffle) warp[lane].state = kRuns;
  }
  return any;
}

EMULATED_UNSEEN inline void resize_region(size_t size) {
  if (grid.region_size > 0) munmap(grid.region, grid.region_size);
  grid.region_size = size;
  if (size == 0) return;
  void* region = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (region == MAP_FAILED) std::abort();
  grid.region = static_cast<char*>(region);
}

EMULATED_UNSEEN inline void run_block(unsigned block, const char* order, std::mt19937& draw) {
  const unsigned count = grid.threads.x;
  if (grid.region_size < (count + 1) * kStack) resize_region((count + 1) * kStack);
  if (grid.all == nullptr) grid.all = static_cast<Thread*>(std::calloc(kMostThreads, sizeof(Thread)));
  grid.block.x = block;
  grid.barriers = 0;
  for (unsigned t = 0; t < count; ++t) {
    Thread& thread = grid.all[t];
    thread.state = kRuns;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = stack_of(t);
    thread.context.uc_stack.ss_size = kStack;
    makecontext(&thread.context, &run_thread, 0);
    EMULATED_ASAN(ASAN_UNPOISON_MEMORY_REGION(stack_of(t), kStack);)
    EMULATED_TSAN(thread.fiber = __tsan_create_fiber(0);)
  }
  unsigned turn[kMostThreads];
  std::iota(turn, turn + count, 0);
  if (*order == 'b') std::reverse(turn, turn + count);
  for (;;) {
    bool moved = false;
    if (*order != 'b' && *order != 'f') std::shuffle(turn, turn + count, draw);
    for (unsigned i = 0; i < count; ++i) {
      if (grid.all[turn[i]].state != kRuns) continue;
      resume(turn[i]);
      moved = true;
    }
    for (unsigned t = 0; t < count; t += kLanes) {
      moved |= exchange(grid.all + t, std::min(kLanes, count - t));
    }
    if (moved) continue;
    unsigned ended = 0;
    for (unsigned t = 0; t < count; ++t) ended += grid.all[t].state == kEnded;
    if (ended == count) break;
    if (ended > 0) fail("threads wait at a barrier that others do not reach");
    ++grid.barriers;
    for (unsigned t = 0; t < count; ++t) grid.all[t].state = kRuns;
  }
  // A stack that is used again would look like a race between blocks, one mapped anew does not.
  EMULATED_TSAN(for (unsigned t = 0; t < count; ++t) __tsan_destroy_fiber(grid.all[t].fiber);
                resize_region(0);)
}

// kernel<<<blocks, threads, shared, stream>>>(arguments...), to the end.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 blocks, dim3 threads, size_t, cudaStream_t,
            Arguments&&... arguments) {
  if (blocks.x == 0 || blocks.x > kMostBlocks || threads.x == 0 || threads.x > kMostThreads) {
    grid.error = cudaErrorInvalidConfiguration;
    return;
  }
  if (std::getenv("POSE_EMULATED_REFUSED")) {
    grid.error = cudaErrorNoKernelImageForDevice;
    return;
  }
  const auto call = [&] { kernel(static_cast<Parameters>(arguments)...); };  // each thread has its own copies
  grid.blocks = blocks, grid.threads = threads, grid.arguments = &call;
  grid.kernel = [](const void* one) { (*static_cast<decltype(call)*>(one))(); };
  EMULATED_TSAN(grid.host_fiber = __tsan_get_current_fiber(); __tsan_release(&grid.begin);)
  const char* named = std::getenv("POSE_EMULATED_ORDER");
  const char* order = named ? named : "forward";
  std::mt19937 draw(std::atoi(order));
  for (unsigned i = 0; i < blocks.x; ++i) {
    run_block(*order == 'b' ? blocks.x - 1 - i : i, order, draw);
  }
  EMULATED_TSAN(__tsan_acquire(&grid.end);)
}

template <class Number>
EMULATED_UNSEEN Number shuffle(unsigned mask, Number number, unsigned source) {
  static_assert(sizeof(Number) <= sizeof(uint64_t));
  Thread& thread = grid.all[grid.thread.x];
  thread.mask = mask, thread.source = source;
  __builtin_memcpy(&thread.value, &number, sizeof(Number));
  stop(kShuffle);
  __builtin_memcpy(&number, &thread.value, sizeof(Number));
  return number;
}

struct NoGuard {  // in the place of torch's DeviceGuard
  explicit NoGuard(int32_t) {}
};

}  // namespace emulated

#define threadIdx emulated::grid.thread
#define blockIdx emulated::grid.block
#define blockDim emulated::grid.threads

EMULATED_UNSEEN inline void __syncthreads() {
  // One address a barrier, in memory that each block has anew: neither phases nor blocks are ordered by it.
  EMULATED_TSAN(char* barrier = emulated::grid.region + 8 * emulated::grid.barriers; __tsan_release(barrier);)
  emulated::stop(emulated::kBarrier);
  EMULATED_TSAN(__tsan_acquire(barrier);)
}

template <class Number>
EMULATED_UNSEEN Number __shfl_xor_sync(unsigned mask, Number number, unsigned other) {
  return emulated::shuffle(mask, number, emulated::grid.thread.x % emulated::kLanes ^ other);
}

inline cudaError_t cudaGetLastError() { return std::exchange(emulated::grid.error, cudaSuccess); }
inline const char* cudaGetErrorString(cudaError_t error) {
  if (error == cudaErrorInvalidConfiguration) return "invalid configuration argument";
  return error == cudaSuccess ? "no error" : "no kernel image is available for execution on the device";
}
