/* Character classes of RFC 9110 and RFC 3986 as one table. */
#ifndef EDGECACHE_CHARS_H
#define EDGECACHE_CHARS_H
#include <stdint.h>

enum { EC_CH_TOKEN = 1, EC_CH_UNRESERVED = 2, EC_CH_PATH = 4, EC_CH_HOST = 8, EC_CH_VALUE = 16 };
/* PATH: may stand in a path as it is (pchar without '%', and '/'). VALUE: field-value bytes: HTAB,
 * SP, visible, obs-text. */
#define T EC_CH_TOKEN
#define U EC_CH_UNRESERVED
#define P EC_CH_PATH
#define H EC_CH_HOST
#define V EC_CH_VALUE
static const uint8_t ec_chars[256] = {
    ['\t'] = V, [' '] = V, ['!'] = T | P | V, ['"'] = V, ['#'] = T | V, ['$'] = T | P | V,
    ['%'] = T | V, ['&'] = T | P | V, ['\''] = T | P | V, ['('] = P | V, [')'] = P | V,
    ['*'] = T | P | V, ['+'] = T | P | V, [','] = P | V, ['-'] = T | U | P | H | V,
    ['.'] = T | U | P | H | V, ['/'] = P | V, ['0' ... '9'] = T | U | P | H | V,
    [':'] = P | H | V, [';'] = P | V, ['<'] = V, ['='] = P | V, ['>'] = V, ['?'] = V,
    ['@'] = P | V, ['A' ... 'Z'] = T | U | P | H | V, ['['] = H | V, ['\\'] = V, [']'] = H | V,
    ['^'] = T | V, ['_'] = T | U | P | H | V, ['`'] = T | V, ['a' ... 'z'] = T | U | P | H | V,
    ['{'] = V, ['|'] = T | V, ['}'] = V, ['~'] = T | U | P | V, [128 ... 255] = V,
};
#undef T
#undef U
#undef P
#undef H
#undef V
static inline int char_is(unsigned char c, int mask) { return ec_chars[c] & mask; }
static inline int hex_value(unsigned char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
#endif
