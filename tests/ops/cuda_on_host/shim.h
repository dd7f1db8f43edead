// As much of CUDA as kernels.cu uses, on the host: the threads of a block are fibres of one
// thread. A warp runs up to the next barrier before another does. Forwards or backwards: what comes
// out must not depend on it, and does where a kernel forgets to wait.

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <ucontext.h>

#include <functional>
#include <vector>

#define __global__
#define __device__
#define __shared__ static  // one block runs after another

struct Index {
    unsigned x, y;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

enum Wait { AT_SHUFFLE = 1, AT_BARRIER = 2, AT_END = 3 };

struct Fibre {
    ucontext_t start;
    jmp_buf place;
    bool started = false;
    Wait wait = AT_BARRIER;
    double slots[2];  // what it offers in a shuffle, and in the one before
    int shuffles = 0;
    std::vector<char> stack = std::vector<char>(1 << 15);
};

static std::vector<Fibre> fibres;
static unsigned running;
static jmp_buf scheduler;
static std::function<void()> body;
static const char* complaint;

static void complain(const char* what) { complaint = complaint ? complaint : what; }

static void give_way(Wait wait) {
    fibres[running].wait = wait;
    if (!_setjmp(fibres[running].place)) _longjmp(scheduler, 1);
}

static void __syncthreads() { give_way(AT_BARRIER); }

template <typename T>
static T __shfl_xor_sync(unsigned lanes, T x, int apart) {
    if (lanes != 0xffffffffu) complain("a shuffle that not all lanes take part in");
    const unsigned me = running;
    const int slot = fibres[me].shuffles++ % 2;
    fibres[me].slots[slot] = x;
    give_way(AT_SHUFFLE);
    return T(fibres[me ^ unsigned(apart)].slots[slot]);
}

static void run_body() {
    body();
    give_way(AT_END);
}

static void go_on(unsigned number) {
    Fibre& fibre = fibres[number];
    running = number;
    threadIdx = {number % blockDim.x, number / blockDim.x};
    if (_setjmp(scheduler)) return;
    if (fibre.started) _longjmp(fibre.place, 1);
    fibre.started = true;
    getcontext(&fibre.start);
    fibre.start.uc_stack = {fibre.stack.data(), 0, fibre.stack.size()};
    makecontext(&fibre.start, run_body, 0);
    setcontext(&fibre.start);
}

// Let one warp run up to the next barrier: its lanes wait for one another, not for other warps. At
// a shuffle, all lanes must be.
static void run_warp(unsigned first, int backwards) {
    for (bool more = true; more && !complaint;) {
        int at[4] = {0, 0, 0, 0};
        for (unsigned i = 0; i < 32; i++) {
            const unsigned next = first + (backwards ? 31 - i : i);
            if (fibres[next].wait != AT_END) go_on(next);
            at[fibres[next].wait]++;
        }
        more = at[AT_SHUFFLE];
        if (more && at[AT_SHUFFLE] != 32) complain("a shuffle that not all lanes take part in");
    }
}

// Run every warp up to the barrier, and so on, until all have ended.
static void run_block(unsigned threads, int backwards) {
    for (unsigned waiting = 1; waiting && !complaint;) {
        for (unsigned i = 0; i < threads; i += 32)
            run_warp(backwards ? threads - 32 - i : i, backwards);
        waiting = 0;
        for (const Fibre& fibre : fibres) waiting += fibre.wait == AT_BARRIER;
        if (waiting && waiting != threads) complain("a barrier that some threads never reach");
    }
}

static const char* launch(unsigned blocks, unsigned along, unsigned across, int backwards,
                          std::function<void()> kernel) {
    body = kernel;
    complaint = nullptr;
    blockDim = {along, across};
    gridDim = {blocks, 1};
    const unsigned threads = along * across;
    if (threads > 1024 || threads % 32) complain("a block that is no block of whole warps");
    if (fibres.size() != threads) fibres = std::vector<Fibre>(threads);
    for (unsigned block = 0; block < blocks && !complaint; block++) {
        blockIdx = {backwards ? blocks - 1 - block : block, 0};
        for (Fibre& fibre : fibres) fibre.started = false, fibre.wait = AT_BARRIER;
        run_block(threads, backwards);
    }
    return complaint;
}
