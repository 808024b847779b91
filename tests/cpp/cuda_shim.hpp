// Runs the grid code of .cu files on a CPU, so that a machine without a GPU checks indexing,
// exchange between lanes and results bit for bit:
//     g++ -x c++ -include tests/cpp/cuda_shim.hpp csrc/<family>/cuda.cu
//
// Every thread of a block is a fiber. A fiber runs until a collective (a vote, a shuffle, a
// barrier) and goes on when all 32 lanes of its warp, or all threads of its block, have arrived.
// Lanes that miss a collective, or meet different ones, abort the process, as the hardware would
// not.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#define HL_CUDA_SHIM 1
#define __CUDACC__ 1
#define CUDART_VERSION 13000
#define __host__
#define __device__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0;
constexpr cudaError_t cudaErrorInsufficientDriver = 35;
constexpr cudaError_t cudaErrorNoDevice = 100;
constexpr cudaError_t cudaErrorInvalidDevice = 101;

struct dim3 {
    unsigned x, y = 1, z = 1;
    explicit dim3(unsigned x_) : x(x_) {}
};

namespace hl_shim {

struct Index {
    unsigned x;
};

constexpr unsigned warp_lanes = 32;

// What a test may set: the largest grid, the steps of a launch, the order in which lanes run
// between two collectives, and an error for the next launch.
inline std::int64_t max_blocks = 0x7fffffff;
inline double max_steps = 10000;
inline bool backwards = false;
inline cudaError_t next_error = cudaSuccess;

// What a test may look at.
inline std::int64_t launches = 0;
inline cudaStream_t last_stream = nullptr;
inline int device = 0;

// A context starts it on its own stack; from then on jumps switch, which cost no system call.
struct Fiber {
    ucontext_t context;
    jmp_buf place;
    std::unique_ptr<char[]> stack;
    bool started = false, done = false;
};

// Where threads meet: a warp or the block. Values alternate between two buffers, since a lane may
// arrive at the next collective before another has read the values of this one.
struct Meeting {
    unsigned members = 0, arrived = 0, gone = 0;
    std::int64_t generation = 0;
    const char* kind = nullptr;
    std::uint64_t value[2][warp_lanes];
};

struct Block {
    static constexpr std::size_t stack_bytes = 1 << 16;

    jmp_buf scheduler;
    std::vector<Fiber> fibers;
    std::vector<Meeting> warps;
    Meeting all;
    std::vector<unsigned char> shared;
    void (*body)(void*) = nullptr;
    void* body_context = nullptr;
    unsigned running = 0, block_index = 0, grid_size = 0;
    bool progress = false;
};

inline Block& block() {
    static Block the_block;
    return the_block;
}

[[noreturn]] inline void fail(const char* what) {
    std::fprintf(stderr, "cuda_shim: %s (block %u, thread %u)\n", what, block().block_index,
                 block().running);
    std::abort();
}

inline void yield() {
    Block& b = block();
    if (_setjmp(b.fibers[b.running].place) == 0) _longjmp(b.scheduler, 1);
}

// Waits until all members are here; returns the generation whose values may be read.
inline std::int64_t meet(Meeting& meeting, const char* kind) {
    if (meeting.gone != 0) fail("a thread has left before a collective");
    if (meeting.arrived == 0) meeting.kind = kind;
    if (std::strcmp(meeting.kind, kind) != 0) fail("threads meet at different collectives");
    const std::int64_t generation = meeting.generation;
    block().progress = true;
    if (++meeting.arrived == meeting.members) {
        meeting.arrived = 0;
        ++meeting.generation;
        return generation;
    }
    while (meeting.generation == generation)
        yield();
    return generation;
}

inline Meeting& warp() {
    return block().warps[block().running / warp_lanes];
}

inline unsigned lane() {
    return block().running % warp_lanes;
}

// Gives the value of every lane of the warp; all 32 must call it.
inline const std::uint64_t* exchange(unsigned mask, std::uint64_t value, const char* kind) {
    if (mask != 0xffffffffu) fail("a collective for a part of the warp");
    Meeting& meeting = warp();
    meeting.value[meeting.generation % 2][lane()] = value;
    return meeting.value[meet(meeting, kind) % 2];
}

template <class T>
T shuffle(unsigned mask, T value, unsigned source, const char* kind) {
    static_assert(sizeof(T) <= sizeof(std::uint64_t), "at most 64 bits are exchanged");
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = exchange(mask, bits, kind)[source];
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline void fiber_main() {
    Block& b = block();
    b.body(b.body_context);
    Fiber& self = b.fibers[b.running];
    self.done = true;
    for (Meeting* meeting : {&warp(), &b.all}) {
        ++meeting->gone;
        if (meeting->arrived != 0) fail("a thread has left while others wait in a collective");
    }
    yield();
}

inline void resume(unsigned thread) {
    Block& b = block();
    Fiber& fiber = b.fibers[thread];
    b.running = thread;
    if (!fiber.started) {
        fiber.started = true;
        b.progress = true;
        if (!fiber.stack) fiber.stack.reset(new char[Block::stack_bytes]);
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = Block::stack_bytes;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, fiber_main, 0);
        if (_setjmp(b.scheduler) == 0) setcontext(&fiber.context);
        return;
    }
    if (_setjmp(b.scheduler) == 0) _longjmp(fiber.place, 1);
}

inline void run_block(unsigned threads) {
    Block& b = block();
    b.warps.assign((threads + warp_lanes - 1) / warp_lanes, Meeting());
    for (unsigned t = 0; t < threads; ++t)
        ++b.warps[t / warp_lanes].members;
    b.all = Meeting();
    b.all.members = threads;
    for (Fiber& fiber : b.fibers)
        fiber.started = fiber.done = false;
    for (unsigned left = threads; left > 0;) {
        b.progress = false;
        left = 0;
        for (unsigned i = 0; i < threads; ++i) {
            const unsigned t = backwards ? threads - 1 - i : i;
            if (b.fibers[t].done) continue;
            resume(t);
            left += b.fibers[t].done ? 0 : 1;
        }
        if (left > 0 && !b.progress) fail("all threads wait");
    }
}

template <class Body>
cudaError_t run_grid(dim3 grid, dim3 threads, std::size_t shared_bytes, cudaStream_t stream,
                     Body body) {
    ++launches;
    last_stream = stream;
    if (next_error != cudaSuccess) {
        const cudaError_t error = next_error;
        next_error = cudaSuccess;
        return error;
    }
    Block& b = block();
    b.body = [](void* context) { (*static_cast<Body*>(context))(); };
    b.body_context = &body;
    b.fibers.resize(threads.x);
    b.grid_size = grid.x;
    for (b.block_index = 0; b.block_index < grid.x; ++b.block_index) {
        b.shared.assign(shared_bytes + 16, 0xff);  // NaN: shared memory starts with no value
        run_block(threads.x);
    }
    return cudaSuccess;
}

inline unsigned char* dynamic_shared() {
    const std::uintptr_t start = reinterpret_cast<std::uintptr_t>(block().shared.data());
    return block().shared.data() + (16 - start % 16) % 16;
}

}  // namespace hl_shim

#define threadIdx (hl_shim::Index{hl_shim::block().running})
#define blockIdx (hl_shim::Index{hl_shim::block().block_index})
#define gridDim (hl_shim::Index{hl_shim::block().grid_size})
#define blockDim (hl_shim::Index{static_cast<unsigned>(hl_shim::block().fibers.size())})

inline unsigned __ballot_sync(unsigned mask, bool predicate) {
    const std::uint64_t* values = hl_shim::exchange(mask, predicate, "ballot");
    unsigned bits = 0;
    for (unsigned i = 0; i < hl_shim::warp_lanes; ++i)
        bits |= values[i] != 0 ? 1u << i : 0u;
    return bits;
}

inline bool __any_sync(unsigned mask, bool predicate) {
    return __ballot_sync(mask, predicate) != 0;
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    const unsigned w = static_cast<unsigned>(width);
    const unsigned first = hl_shim::lane() / w * w;
    return hl_shim::shuffle(mask, value, first + static_cast<unsigned>(source) % w, "shuffle");
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    const unsigned source = hl_shim::lane() ^ static_cast<unsigned>(bits);
    if (source / static_cast<unsigned>(width) != hl_shim::lane() / static_cast<unsigned>(width)) {
        hl_shim::fail("a shuffle beyond its group");
    }
    return hl_shim::shuffle(mask, value, source, "shuffle xor");
}

inline void __syncwarp() {
    hl_shim::exchange(0xffffffffu, 0, "syncwarp");
}

inline void __syncthreads() {
    hl_shim::meet(hl_shim::block().all, "syncthreads");
}

template <class T>
T __ldg(const T* address) {
    return *address;
}

template <class T>
T atomicMin(T* address, T value) {
    const T before = *address;
    if (value < before) *address = value;
    return before;
}

inline cudaError_t cudaMemsetAsync(void* target, int byte, std::size_t bytes, cudaStream_t) {
    std::memset(target, byte, bytes);
    return cudaSuccess;
}

inline cudaError_t cudaGetLastError() {
    return cudaSuccess;
}

inline cudaError_t cudaGetDevice(int* device) {
    *device = hl_shim::device;
    return cudaSuccess;
}

inline cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device > 1) return cudaErrorInvalidDevice;
    hl_shim::device = device;
    return cudaSuccess;
}
