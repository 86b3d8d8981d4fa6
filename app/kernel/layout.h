/* The shared memory layout, the fences that make it safe, and the futexes.  Defined here only.
 *
 * PRICE BOOK (one writer, any readers)              TICK RING (one writer, up to 63 readers)
 *      0 magic "PRICBOOK"                                0 magic "TICKRING"
 *      8 layout_version u32 | slot_bytes u32             8 layout_version u32 | record_bytes u32
 *     16 symbol_count u32   | checksum u32              16 capacity u64 (ticks, a power of two)
 *     24 boot_id u64 (random, new for each segment)     24 boot_id u64
 *     32 pad                                            32 policy u32 | checksum u32
 *     64 heartbeat_ns i64 (CLOCK_MONOTONIC)             64 published u64   ticks readable so far
 *     72 gaps u64 (feed interruptions seen)             72 claimed u64     may be overwritten up to here
 *   4096 slot[symbol_count], 128 bytes each             80 next_seq u64    source sequence of the next tick
 *                                                       88 end_seq u64     run's length; ~0 while open
 *   slot: two cache lines, the second one cold          96 heartbeat_ns i64
 *      0 stamp u64 = seal << 48 |                      104 skipped u64      sequences left out so far
 *        (seq + 1) << 1 | live cell                    128 data_futex u32  | data_waiting u32
 *      8 price f64 (alone, for the NumPy view)         192 space_futex u32 | space_waiting u32
 *     16 cell 0: event_ns i64, price f64, recv_ns i64  256 reader[63], 64 bytes each:
 *     40 cell 1: the same                                    0 state u32 | pad   8 cursor u64
 *     64 symbol char[32], padded with zeros              16 lost u64         24 name char[40]
 *     96 pad                                          8192 record[capacity], 32 bytes each:
 *                                                           0 event_ns i64    8 price f64
 *                                                          16 seq u64
 *                                                          24 seal u16 | symbol u16 | recv_us u32
 *
 * What makes damage evident.  A seal is 16 bits of a hash of its record or cell: any single flipped bit
 * changes it.  The tick at position p has the sequence p + n, where n, the number of sequences left out
 * before it, never falls and is at most ``skipped``: an overwritten or stale record does not follow on.
 * next_seq = published + skipped while no write is under way.  The writer keeps its own copy of the words
 * at 64 to 95 and 104 and compares.  The checksums are CRC-32 of what never changes: of the header up to
 * byte 32 (book, and its symbols) or 36 (ring), the checksum itself left out.
 *
 * Memory order, valid on arm64 as well as on x86.  Data is written before the word that announces it: a
 * release store, paired with the reader's acquire load.  The word that WITHDRAWS old data (a book slot's
 * previous stamp, the ring's claimed) is followed by a release fence before the data is overwritten,
 * because a release store orders only earlier accesses.  The reader's acquire fence between its copy and
 * its second check pairs with that.  Sleeping and waking each write one word and then read the other
 * side's (Dekker), which needs a full fence: x86, too, reorders a store with a later load.
 */
#ifndef TRADING_LAYOUT_H
#define TRADING_LAYOUT_H

#include <limits.h>
#include <linux/futex.h>
#include <locale.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define LAYOUT_VERSION 3u
#define BOOK_MAGIC 0x4b4f4f4243495250ull /* "PRICBOOK" */
#define RING_MAGIC 0x474e49524b434954ull /* "TICKRING" */
#define NO_END UINT64_MAX
#define MAX_READERS 63
#define SYMBOL_BYTES_MAX 32

typedef struct { int64_t event_ns; double price; int64_t recv_ns; } book_cell;

typedef struct {
    uint64_t stamp;
    double price;
    book_cell cell[2];
    char symbol[SYMBOL_BYTES_MAX];
    char pad[32];
} book_slot;

typedef struct {
    uint64_t magic;
    uint32_t layout_version, slot_bytes, symbol_count, checksum;
    uint64_t boot_id;
    char pad1[32];
    int64_t heartbeat_ns;
    uint64_t gaps;
    char pad2[4016];
    book_slot slot[];
} price_book;

typedef struct {
    int64_t event_ns;
    double price;
    uint64_t seq;
    uint16_t seal, symbol;
    uint32_t recv_us;
} tick_record;

enum { READER_FREE = 0, READER_LOSSLESS = 1, READER_LATEST = 2 };

typedef struct {
    uint32_t state, pad0;
    uint64_t cursor, lost;
    char name[40];
} ring_reader;

typedef struct {
    uint64_t magic;
    uint32_t layout_version, record_bytes;
    uint64_t capacity, boot_id;
    uint32_t policy, checksum;
    char pad1[24];
    uint64_t published, claimed, next_seq, end_seq;
    int64_t heartbeat_ns;
    uint64_t skipped;
    char pad2[16];
    uint32_t data_futex, data_waiting;
    char pad3[56];
    uint32_t space_futex, space_waiting;
    char pad4[56];
    ring_reader reader[MAX_READERS];
    char pad5[8192 - 256 - MAX_READERS * 64];
    tick_record record[];
} tick_ring;

#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field)
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "symbols are compared as words");
_Static_assert(sizeof(book_slot) == 128, "a slot is two cache lines");
_Static_assert(sizeof(tick_record) == 32, "two records a cache line");
_Static_assert(sizeof(ring_reader) == 64, "readers never share a cache line");
AT(book_slot, price, 8); AT(book_slot, cell, 16); AT(book_slot, symbol, 64);
AT(price_book, heartbeat_ns, 64); AT(price_book, slot, 4096);
AT(price_book, checksum, 20); AT(tick_record, symbol, 26); AT(tick_ring, checksum, 36);
AT(tick_ring, published, 64); AT(tick_ring, end_seq, 88); AT(tick_ring, data_futex, 128);
AT(tick_ring, skipped, 104);
AT(tick_ring, space_futex, 192); AT(tick_ring, reader, 256); AT(tick_ring, record, 8192);

#define load_relaxed(p) __atomic_load_n(&(p), __ATOMIC_RELAXED)
#define load_acquire(p) __atomic_load_n(&(p), __ATOMIC_ACQUIRE)
#define store_relaxed(p, v) __atomic_store_n(&(p), (v), __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n(&(p), (v), __ATOMIC_RELEASE)
#define prefetch(p) __builtin_prefetch((p), 1)
#define fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define fence_release() __atomic_thread_fence(__ATOMIC_RELEASE)
#define fence_full() __atomic_thread_fence(__ATOMIC_SEQ_CST)

static inline double bits_to_double(uint64_t bits) {
    union { uint64_t u; double d; } pun = { .u = bits };
    return pun.d;
}

static inline uint64_t double_to_bits(double value) {
    union { double d; uint64_t u; } pun = { .d = value };
    return pun.u;
}

#define STAMP_LOW 0xffffffffffffull /* the stamp without its seal */
#define SEAL_XOR 0x5bd1e9955bd1e995ull /* memory full of zeros has no valid seal */
/* Neither has 16 equal bits in a row, so every bit of a word changes the top 16 of its product. */
#define SEAL_FACTOR_1 0x9e3779b97f4a7c15ull
#define SEAL_FACTOR_2 0xd6e8feb86659fd93ull

static inline uint64_t seal_of(uint64_t event_ns, uint64_t price, uint64_t seq, uint64_t rest) {
    return ((event_ns ^ seq) * SEAL_FACTOR_1 + (price ^ SEAL_XOR ^ rest) * SEAL_FACTOR_2) >> 48;
}

static inline uint64_t cell_seal(const book_cell *c, uint64_t seq) {
    return seal_of((uint64_t)c->event_ns, double_to_bits(c->price), seq, (uint64_t)c->recv_ns);
}

static inline void book_put(book_slot *slot, uint64_t seq, int64_t event_ns, double price,
                            int64_t recv_ns) {
    uint64_t stamp = load_relaxed(slot->stamp) & STAMP_LOW;
    uint64_t next = (seq + 1) << 1;
    if (next <= (stamp & ~1ull)) return; /* a resumed feed repeats ticks that the book already has */
    uint64_t spare = ~stamp & 1, bits = double_to_bits(price);
    book_cell *cell = &slot->cell[spare];
    next |= spare | seal_of((uint64_t)event_ns, bits, seq, (uint64_t)recv_ns) << 48;
    fence_release();
    store_relaxed(cell->event_ns, event_ns);
    store_relaxed(*(uint64_t *)&cell->price, bits);
    store_relaxed(cell->recv_ns, recv_ns);
    store_release(slot->stamp, next);
    store_relaxed(*(uint64_t *)&slot->price, bits);
}

/* Completes a record that has event_ns, price and symbol, and puts its tick into the book. */
static inline void finish_record(tick_record *record, book_slot *slots, uint64_t seq, int64_t recv_ns,
                                 uint32_t recv_us) {
    int64_t event_ns = record->event_ns;
    double price = record->price;
    uint64_t symbol = record->symbol, rest = (uint64_t)recv_us << 16 | symbol;
    record->seq = seq;
    ((uint64_t *)record)[3] = rest << 16
        | seal_of((uint64_t)event_ns, double_to_bits(price), seq, rest);
    book_put(&slots[symbol], seq, event_ns, price, recv_ns);
}

/* Whether a record's seal is that of another content. */
static inline int seal_broken(const tick_record *record) {
    const uint64_t *word = (const uint64_t *)record;
    return ((seal_of(word[0], word[1], word[2], word[3] >> 16) ^ word[3]) & 0xffff) != 0;
}

/* Copies records from shared memory; 0 if what was copied has the sequences from first_seq on and valid
 * seals. */
__attribute__((noinline, optimize("no-tree-vectorize,unroll-loops"))) static int copy_records(
        tick_record *to, const tick_record *from, uint64_t count, uint64_t first_seq) {
    uint64_t seqs = 0, seals = 0;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t *word = (const uint64_t *)&from[i];
        uint64_t *copy = (uint64_t *)&to[i];
        uint64_t event_ns = load_relaxed(word[0]), price = load_relaxed(word[1]);
        uint64_t seq = load_relaxed(word[2]), rest = load_relaxed(word[3]);
        copy[0] = event_ns, copy[1] = price, copy[2] = seq, copy[3] = rest;
        seqs |= seq ^ (first_seq + i);
        seals |= seal_of(event_ns, price, seq, rest >> 16) ^ rest;
    }
    return seqs || seals & 0xffff;
}

#define NEVER_WRITTEN -1
#define DAMAGED -2

/* Copies the live cell; returns its sequence, NEVER_WRITTEN or DAMAGED.  A retry happens only when
 * the writer has written meanwhile, so a writer that stops halfway cannot make it loop. */
static inline int64_t book_get(book_slot *slot, book_cell *out) {
    for (;;) {
        uint64_t stamp = load_acquire(slot->stamp);
        if (!stamp) return NEVER_WRITTEN;
        book_cell *cell = &slot->cell[stamp & 1];
        out->event_ns = load_relaxed(cell->event_ns);
        out->price = bits_to_double(load_relaxed(*(uint64_t *)&cell->price));
        out->recv_ns = load_relaxed(cell->recv_ns);
        fence_acquire();
        if (load_relaxed(slot->stamp) != stamp) continue;
        uint64_t low = stamp & STAMP_LOW;
        uint64_t seq = (low >> 1) - 1;
        return cell_seal(out, seq) == stamp >> 48 ? (int64_t)seq : DAMAGED;
    }
}

/* No FUTEX_PRIVATE_FLAG: the waiters are other processes, in other containers. */
static inline long futex_wait(uint32_t *word, uint32_t seen, int64_t timeout_ns) {
    struct timespec limit = { timeout_ns / 1000000000, timeout_ns % 1000000000 };
    return syscall(SYS_futex, word, FUTEX_WAIT, seen, &limit, NULL, 0);
}

static inline void futex_wake_if(uint32_t *word, uint32_t *waiting) {
    fence_full();
    if (!load_relaxed(*waiting)) return;
    store_relaxed(*waiting, 0u);
    __atomic_fetch_add(word, 1u, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* strtod in the C locale, whatever locale the process has set. */
static inline double decimal_to_double(const char *text, char **end) {
    static locale_t c_locale;
    if (!c_locale) c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    return strtod_l(text, end, c_locale);
}

static inline int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* HdrHistogram's index rule (HdrHistogram, AbstractHistogram.countsArrayIndex) for two significant
 * digits and a lowest value of 1: 256 sub-buckets, of which each bucket but the first uses half. */
static inline uint64_t histogram_index(uint64_t value) {
    int bucket = 56 - __builtin_clzll(value | 255);
    return ((uint64_t)(bucket + 1) << 7) + (value >> bucket) - 128;
}
#endif
