/* The symbol of a tick, and both symbol and price of a price tick with vector instructions.
 *
 * A parser that goes byte by byte branches on each field's length, and the CPU mispredicts one or two
 * of these branches per tick.  Here no branch depends on a length: one comparison finds both
 * delimiters, the decimal point is shifted out, and the digits are multiplied together in the register
 * (after W. Mula, "SIMD-ized parsing of unsigned numbers", and D. Lemire, "Quickly parsing eight
 * digits").
 *
 * Needs x86-64 with SSE4.1, detected at run time; elsewhere the byte loop parses everything.
 */
#ifndef TRADING_SCAN_H
#define TRADING_SCAN_H

#include <stdint.h>
#include <string.h>

#include "layout.h"

typedef struct {
    uint64_t digits; /* digits of the price, as one number */
    int fraction;    /* how many of them follow the point */
    int symbol_bytes;
} tick_fields;

static inline uint64_t load_text(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

/* The low `length` bytes (1 to 8) of a word. */
static inline uint64_t first_bytes(uint64_t word, int length) {
    int away = 64 - 8 * length;
    return word << away >> away;
}

/* A symbol as the table of symbols knows it: its first 8 bytes, and length << 26 | the next 3 bytes or,
 * of a symbol of over 11 bytes, 26 bits of a hash of the rest.  So the key of any other symbol is the
 * symbol itself. */
typedef struct {
    uint64_t head;
    uint32_t tail;
} symbol_key;

#define TAIL_LENGTH_SHIFT 26
#define HASHED_SYMBOL_BYTES 12 /* or more */
#define HASHED_TAIL ((uint32_t)HASHED_SYMBOL_BYTES << TAIL_LENGTH_SHIFT) /* or above */
#define APART __attribute__((noinline)) /* so that the code for short symbols stays small */

/* How many bytes of a word precede its first '*'; 8 without one. */
static inline int bytes_before_star(uint64_t word) {
    /* xor turns a '*' into zero, the borrow finds the lowest zero byte. */
    uint64_t hit = word ^ 0x2a2a2a2a2a2a2a2aull;
    hit = (hit - 0x0101010101010101ull) & ~hit & 0x8080808080808080ull;
    return hit ? __builtin_ctzll(hit) >> 3 : 8;
}

/* How many bytes precede the first '*', at most SYMBOL_BYTES_MAX; else -1.  Reads 33 bytes. */
static inline int symbol_length(const uint8_t *p) {
    int length = 0, before;
    do {
        before = bytes_before_star(load_text(p + length));
        length += before;
    } while (before == 8 && length < SYMBOL_BYTES_MAX);
    return before < 8 || p[length] == '*' ? length : -1;
}

/* The word at `at` of a text of `length` bytes, which goes on behind `at`; the bytes after it are 0. */
static inline uint64_t word_of(const uint8_t *p, int at, int length) {
    return first_bytes(load_text(p + at), length - at < 8 ? length - at : 8);
}

/* The key of 1 to SYMBOL_BYTES_MAX bytes.  Reads whole words. */
static APART symbol_key key_of(const uint8_t *p, int length) {
    uint64_t rest = length > 8 ? word_of(p, 8, length) : 0;
    if (length >= HASHED_SYMBOL_BYTES) {
        for (int at = 16; at < length; at += 8)
            rest = (rest ^ rest >> 32) * 0x9e3779b97f4a7c15ull ^ word_of(p, at, length);
        rest = (rest ^ rest >> 32) * 0x9e3779b97f4a7c15ull >> (64 - TAIL_LENGTH_SHIFT);
    }
    return (symbol_key){ word_of(p, 0, length), (uint32_t)length << TAIL_LENGTH_SHIFT | (uint32_t)rest };
}

/* Whether a symbol, padded with zeros, is the text whose key is the same, which has a hash. */
static APART int is_symbol(const uint8_t *symbol, const uint8_t *text, uint32_t tail) {
    int length = (int)(tail >> TAIL_LENGTH_SHIFT);
    for (int at = 8; at < length; at += 8)
        if (load_text(symbol + at) != word_of(text, at, length)) return 0;
    return 1;
}

#ifdef __x86_64__
#include <smmintrin.h>
#define VECTORS __attribute__((target("sse4.1")))

static inline int have_vectors(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.1") != 0;
}

static inline VECTORS uint32_t bytes_like(const uint8_t *p, char wanted) {
    const __m128i text = _mm_loadu_si128((const __m128i *)p);
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(text, _mm_set1_epi8(wanted)));
}

/* Parses the decimal text of `length` bytes (1 to 16) before `end`; returns 0 unless it is digits with
 * at most one point.  Reads 16 bytes. */
static inline VECTORS int read_decimal(const uint8_t *end, int length, tick_fields *out) {
    /* 16 bytes from `length` on are a mask for the last `length` bytes. */
    static const int8_t keep[32] = {
        [16] = -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    };
    /* Row `at`: bytes up to `at` move up by one, over the point; the others stay. */
    static const int8_t close_up[16][16] __attribute__((aligned(16))) = {
#define UP(i, at) ((i) <= (at) ? (i) - 1 : (i))
#define ROW(at) {UP(0, at), UP(1, at), UP(2, at), UP(3, at), UP(4, at), UP(5, at), UP(6, at), \
                 UP(7, at), UP(8, at), UP(9, at), UP(10, at), UP(11, at), UP(12, at), UP(13, at), \
                 UP(14, at), UP(15, at)}
        ROW(0), ROW(1), ROW(2), ROW(3), ROW(4), ROW(5), ROW(6), ROW(7),
        ROW(8), ROW(9), ROW(10), ROW(11), ROW(12), ROW(13), ROW(14), ROW(15),
#undef ROW
#undef UP
    };
    const __m128i kept = _mm_loadu_si128((const __m128i *)(keep + length));
    const __m128i text = _mm_loadu_si128((const __m128i *)(end - 16));
    __m128i d = _mm_and_si128(_mm_sub_epi8(text, _mm_set1_epi8('0')), kept);
    uint32_t point = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(d, _mm_set1_epi8('.' - '0')));
    out->fraction = 0;
    if (point) {
        int at = __builtin_ctz(point);
        out->fraction = 15 - at;
        d = _mm_shuffle_epi8(d, _mm_load_si128((const __m128i *)close_up[at]));
    }
    if (!_mm_testz_si128(_mm_subs_epu8(d, _mm_set1_epi8(9)), _mm_set1_epi8(-1))) return 0;
    d = _mm_maddubs_epi16(d, _mm_set1_epi16(1 << 8 | 10));
    d = _mm_madd_epi16(d, _mm_set1_epi32(1 << 16 | 100));
    d = _mm_packus_epi32(d, d);
    d = _mm_madd_epi16(d, _mm_set1_epi32(1 << 16 | 10000));
    uint64_t halves = (uint64_t)_mm_cvtsi128_si64(d);
    out->digits = (halves & 0xffffffff) * 100000000 + (halves >> 32);
    return 1;
}

/* Parses symbol and price from p on, each followed by a '*'; returns the position after both, or NULL
 * unless the symbol has 1 to 8 bytes and the price is 1 to 16 bytes of digits with at most one point.
 * Reads 32 bytes from p on and 16 before the price's end, where the timestamp is. */
static VECTORS const uint8_t *read_symbol_and_price(const uint8_t *p, tick_fields *out) {
    uint32_t stars = bytes_like(p, '*') | bytes_like(p + 16, '*') << 16;
    uint32_t second = stars & (stars - 1);
    if (!second) return NULL;
    int symbol_bytes = __builtin_ctz(stars), end = __builtin_ctz(second);
    int price_bytes = end - symbol_bytes - 1;
    out->symbol_bytes = symbol_bytes;
    if ((unsigned)(symbol_bytes - 1) >= 8 || (unsigned)(price_bytes - 1) >= 16) return NULL;
    return read_decimal(p + end, price_bytes, out) ? p + end + 1 : NULL;
}

/* The same of a symbol of up to SYMBOL_BYTES_MAX bytes, if both fit into 48 bytes, which it reads. */
static VECTORS APART const uint8_t *read_long_symbol_and_price(const uint8_t *p, tick_fields *out) {
    uint64_t stars = bytes_like(p, '*') | bytes_like(p + 16, '*') << 16 |
                     (uint64_t)bytes_like(p + 32, '*') << 32;
    uint64_t second = stars & (stars - 1);
    if (!second) return NULL;
    int symbol_bytes = __builtin_ctzll(stars), end = __builtin_ctzll(second);
    int price_bytes = end - symbol_bytes - 1;
    out->symbol_bytes = symbol_bytes;
    if ((unsigned)(symbol_bytes - 1) >= SYMBOL_BYTES_MAX || (unsigned)(price_bytes - 1) >= 16)
        return NULL;
    return read_decimal(p + end, price_bytes, out) ? p + end + 1 : NULL;
}
#else
static inline int have_vectors(void) { return 0; }
static const uint8_t *read_symbol_and_price(const uint8_t *p, tick_fields *out) {
    (void)p, (void)out;
    return NULL;
}
static const uint8_t *read_long_symbol_and_price(const uint8_t *p, tick_fields *out) {
    (void)p, (void)out;
    return NULL;
}
#endif
#endif
