/* Text by the word: where the delimiters are, and what a number says, without a branch per byte.
 *
 * A parser that walks from field to field waits for each length before it can begin with the next
 * one, and guesses it wrong once or twice per tick.  Here the delimiters of a block are found first,
 * so every field's place is known, and the fields of several ticks are worked on at once (the two
 * stages of G. Langdale and D. Lemire, "Parsing Gigabytes of JSON per Second", 2019).
 *
 * Little-endian: a word's first character is its lowest byte.  _layout.h asserts that.
 */
#ifndef TRADING_SCAN_H
#define TRADING_SCAN_H

#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define SCAN_BYTES 64
#define EVERY_BYTE(b) (0x0101010101010101ull * (b))

static inline uint64_t load_text(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, 8);
    return word;
}

/* Bit i says whether p[i] is a '*'; reads SCAN_BYTES. */
static inline uint64_t star_bits(const uint8_t *p) {
    uint64_t bits = 0;
#ifdef __SSE2__
    const __m128i star = _mm_set1_epi8('*');
    for (int i = 0; i < 4; i++) {
        __m128i text = _mm_loadu_si128((const __m128i *)(p + 16 * i));
        bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(text, star)) << (16 * i);
    }
#else
    for (int i = 0; i < 8; i++) {
        uint64_t x = load_text(p + 8 * i) ^ EVERY_BYTE('*');
        uint64_t zero = ~(((x & EVERY_BYTE(0x7f)) + EVERY_BYTE(0x7f)) | x) & EVERY_BYTE(0x80);
        /* One multiplication gathers the eight high bits. */
        bits |= (((zero >> 7) * 0x0102040810204080ull) >> 56) << (8 * i);
    }
#endif
    return bits;
}

static inline int count_bits(uint64_t x) {
    x -= (x >> 1) & EVERY_BYTE(0x55);
    x = (x & EVERY_BYTE(0x33)) + ((x >> 2) & EVERY_BYTE(0x33));
    return (int)((((x + (x >> 4)) & EVERY_BYTE(0x0f)) * EVERY_BYTE(1)) >> 56);
}

/* The places of the '*' in [p, end), counted from p, at least `wanted` if there are so many.
 * `at` has room for wanted + SCAN_BYTES, and SCAN_BYTES may be read behind `end`. */
static inline int find_stars(const uint8_t *p, const uint8_t *end, int wanted, int32_t *at) {
    int found = 0;
    for (int32_t base = 0; found < wanted && p + base < end; base += SCAN_BYTES) {
        uint64_t bits = star_bits(p + base);
        if (end - (p + base) < SCAN_BYTES) bits &= (1ull << (end - (p + base))) - 1;
        int count = count_bits(bits);
        int32_t *out = at + found;
        /* Eight at a time, wanted or not: a loop that ends with the bits is guessed wrong. */
        do {
            for (int i = 0; i < 8; i++) {
                out[i] = base + __builtin_ctzll(bits | 1ull << 63);
                bits &= bits - 1;
            }
            out += 8;
        } while (bits);
        found += count;
    }
    return found;
}

/* The low `length` bytes (1 to 8) of a word. */
static inline uint64_t first_bytes(uint64_t word, int length) {
    int away = 64 - 8 * length;
    return word << away >> away;
}

/* Eight digits, one a byte and the first one lowest, as a number (D. Lemire, "Quickly parsing eight
 * digits", 2018). */
static inline uint64_t eight_digits(uint64_t d) {
    d = d * 10 + (d >> 8);
    return ((d & 0x000000ff000000ffull) * 0x000f424000000064ull +
            ((d >> 16) & 0x000000ff000000ffull) * 0x0000271000000001ull) >> 32;
}

/* The decimal text of `length` bytes (1 to 16) before `end` as digits and their number behind the
 * point; returns 0 for anything that is not digits with at most one point.  Reads 16 bytes. */
static inline int read_decimal(const uint8_t *end, int length, uint64_t *digits, int *fraction) {
    uint64_t high = load_text(end - 16) ^ EVERY_BYTE('0'), low = load_text(end - 8) ^ EVERY_BYTE('0');
    if (length <= 8) {
        int away = 64 - 8 * length;
        high = 0;
        low = low >> away << away;
    } else {
        int away = 128 - 8 * length;
        high = high >> away << away;
    }
    /* The point: close it up by moving what stands before it. */
    uint64_t x = low ^ EVERY_BYTE('.' ^ '0');
    uint64_t point = (x - EVERY_BYTE(1)) & ~x & EVERY_BYTE(0x80);
    *fraction = 0;
    if (point) {
        uint64_t below = (point & -point) - 1; /* lowest hit: exact, and its byte's bits below 0x80 */
        below >>= 7;                           /* the bytes before the point */
        *fraction = 7 - (__builtin_ctzll(point) >> 3);
        low = (low & ~(below << 8 | 0xff)) | (low & below) << 8 | high >> 56;
        high <<= 8;
    } else {
        x = high ^ EVERY_BYTE('.' ^ '0');
        point = (x - EVERY_BYTE(1)) & ~x & EVERY_BYTE(0x80);
        if (point) {
            uint64_t below = ((point & -point) - 1) >> 7;
            *fraction = 15 - (__builtin_ctzll(point) >> 3);
            high = (high & ~(below << 8 | 0xff)) | (high & below) << 8;
        }
    }
    if (((low + EVERY_BYTE(0x76)) | low | (high + EVERY_BYTE(0x76)) | high) & EVERY_BYTE(0x80)) return 0;
    *digits = eight_digits(low);
    if (high) *digits += eight_digits(high) * 100000000;
    return 1;
}
#endif
