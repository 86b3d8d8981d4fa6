/* The trace of orders in shared memory: what its kernel part writes.  Defined here only.
 *
 * ORDERS (any writers, any readers)                 TIMES OF BATCHES (one writer, any readers)
 *      0 claimed u64   slots taken so far                0 count u64   batches noted so far
 *     64 record[n], 192 bytes each                      64 batch[n], 32 bytes each:
 *        0 stamp u64   position + 1; 0: not whole           0 first_seq u64   8 end_seq u64
 *        8 seal u64    hash of what follows                16 at_ns i64      24 done_ns i64
 *       16 id i64
 *       24 kind u32 | flags u32
 *       32 stage_ns i64[10], CLOCK_MONOTONIC; 0: not known to the writer
 *      112 pad
 *      128 client char[64], UTF-8, zero padded
 *
 * Nothing waits for anybody.  A writer takes slots with one atomic addition, so those of a writer that is
 * killed stay empty, or old, and nobody else notices.  It withdraws the stamp, writes the record, and
 * stores the stamp last.  Two writers meet in a slot only if one sleeps for a whole round of the ring; then,
 * and if a reader copies during a write, the seal does not fit, and the record counts as not written.
 *
 * Batches are noted in the order of time, also by a restarted writer, but the same ticks may come again.
 * So a batch is found by time first: the last one that has the tick and is not later than the given time.
 */
#ifndef TRADING_TRACE_H
#define TRADING_TRACE_H

#include <string.h>

#include "layout.h"

#define TRACE_STAGES 10
#define TRACE_CLIENT_BYTES 64
#define BATCHES_NEAR 8
#define BATCH_STEPS_MAX 8192 /* of a search: as many batches may be on their way at once */

typedef struct {
    uint64_t stamp, seal;
    int64_t id;
    uint32_t kind, flags;
    int64_t stage_ns[TRACE_STAGES];
    char pad[16];
    char client[TRACE_CLIENT_BYTES];
} trace_record;

typedef struct {
    uint64_t claimed;
    char pad[56];
    trace_record record[];
} trace_ring;

typedef struct {
    uint64_t first_seq, end_seq;
    int64_t at_ns, done_ns;
} trace_batch;

typedef struct {
    uint64_t count;
    char pad[56];
    trace_batch batch[];
} trace_batches;

_Static_assert(sizeof(trace_record) == 192, "three cache lines");
_Static_assert(sizeof(trace_batch) == 32, "two a cache line");
AT(trace_record, id, 16); AT(trace_record, kind, 24); AT(trace_record, stage_ns, 32);
AT(trace_record, client, 128); AT(trace_ring, record, 64); AT(trace_batches, batch, 64);

static inline uint64_t trace_seal(const trace_record *r, uint64_t stamp) {
    const uint64_t *word = (const uint64_t *)r;
    uint64_t hash = stamp * SEAL_FACTOR_1;
    for (size_t i = 2; i < sizeof *r / sizeof *word; i++)
        hash = (hash ^ word[i]) * SEAL_FACTOR_2, hash ^= hash >> 32;
    return hash;
}

/* The first position of ``count`` slots that now belong to the caller. */
static inline uint64_t trace_claim(trace_ring *ring, uint64_t count) {
    return __atomic_fetch_add(&ring->claimed, count, __ATOMIC_RELAXED);
}

/* ``from`` has id, kind, flags, times and client. */
static inline void trace_put(trace_ring *ring, uint64_t capacity, uint64_t position, trace_record *from) {
    trace_record *to = &ring->record[position % capacity];
    uint64_t stamp = position + 1;
    from->seal = trace_seal(from, stamp);
    store_relaxed(to->stamp, 0);
    fence_release();
    memcpy(&to->seal, &from->seal, sizeof *to - offsetof(trace_record, seal));
    store_release(to->stamp, stamp);
}

static inline void batch_note(trace_batches *times, uint64_t capacity, uint64_t first_seq,
                              uint64_t end_seq, int64_t at_ns, int64_t done_ns) {
    uint64_t count = times->count;
    trace_batch *to = &times->batch[count % capacity];
    store_relaxed(to->first_seq, first_seq);
    store_relaxed(to->end_seq, end_seq);
    store_relaxed(to->at_ns, at_ns);
    store_relaxed(to->done_ns, done_ns);
    store_release(times->count, count + 1);
}

/* The latest batch up to ``limit_ns`` that has the tick; 0 if there is none.  The oldest entry may be in
 * work, so it is left out; a writer that laps the search makes the result void. */
static inline int batch_find(trace_batches *times, uint64_t capacity, uint64_t seq, int64_t limit_ns,
                             trace_batch *out) {
    uint64_t count = load_acquire(times->count);
    uint64_t low = count >= capacity ? count - capacity + 1 : 0, high = count;
    uint64_t oldest = low, steps = BATCH_STEPS_MAX;
    /* Mostly it is one of the latest, and a search by halves would touch sixteen cold cache lines. */
    for (int near = 0; near < BATCHES_NEAR && high > oldest; near++, high--)
        if (load_relaxed(times->batch[(high - 1) % capacity].at_ns) <= limit_ns) {
            low = high;
            break;
        }
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (load_relaxed(times->batch[middle % capacity].at_ns) <= limit_ns) low = middle + 1;
        else high = middle;
    }
    while (low-- > oldest && steps--) {
        trace_batch *at = &times->batch[low % capacity];
        out->first_seq = load_relaxed(at->first_seq);
        out->end_seq = load_relaxed(at->end_seq);
        out->at_ns = load_relaxed(at->at_ns);
        out->done_ns = load_relaxed(at->done_ns);
        if (out->first_seq <= seq && seq < out->end_seq) {
            fence_acquire();
            return load_relaxed(times->count) < low + capacity;
        }
    }
    return 0;
}
#endif
