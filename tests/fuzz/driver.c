/* The fuzzer for machines without clang: replays files, then mutates them for a number of seconds.
 *
 *   fuzz SECONDS SEED FILE…      SECONDS 0: replay only.
 *
 * No coverage feedback; the corpus has one input for each branch we know, and mutations splice, flip,
 * repeat and insert words of the protocol. The input under way is kept in fuzz-last.bin, so that a
 * crash can be replayed: fuzz 0 0 fuzz-last.bin. With clang, -fsanitize=fuzzer replaces this file. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX_BYTES 20000
#define MAX_FILES 4096

int fuzz_one(const unsigned char *data, size_t length);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t length) { return fuzz_one(data, length); }

#ifndef WITH_LIBFUZZER
static struct { unsigned char *data; size_t length; } corpus[MAX_FILES];
static size_t files;
static uint64_t state;
static unsigned char *last; /* mapped file: survives an abort without a system call per input */

static const char *const words[] = {
    "\r\n", "\r\n\r\n", "\n", "\r", " ", "\t", "\0", ":", "GET ", "HEAD ", "OPTIONS ", "POST ", "/", "//", "/../", "%2e", "%2F",
    "%00", "%zz", "?", "&", "#", "*", "http://", "https://", "@", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "Host: a\r\n", "Range: bytes=",
    "bytes=0-", "bytes=-", "18446744073709551616", "9223372036854775807", "-", ",", "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "If-None-Match: \"a\"\r\n", "If-Range: x\r\n", "W/\"", "*",
    "Accept-Encoding: gzip;q=0\r\n", ".m3u8", "_HLS_msn=", "_HLS_part=", "_HLS_skip=YES", "\xff", "\x7f", "\x80",
};
#define WORDS (sizeof words / sizeof *words)

static uint64_t next_random(void) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545F4914F6CDD1Dull;
}
static size_t below(size_t n) { return n ? next_random() % n : 0; }

/* Each input ends where an allocation of its own size ends, as far as malloc lets it. */
static void run(const unsigned char *data, size_t length) {
    unsigned char *exact = malloc(length ? length : 1);
    memcpy(exact, data, length);
    if (last != NULL) {
        memcpy(last, &length, sizeof length);
        memcpy(last + sizeof length, data, length);
    }
    fuzz_one(exact, length);
    free(exact);
}

static size_t insert(unsigned char *at, size_t length, size_t place, const void *what, size_t n) {
    if (length + n > MAX_BYTES) return length;
    memmove(at + place + n, at + place, length - place);
    memcpy(at + place, what, n);
    return length + n;
}

static size_t mutate(unsigned char *at, size_t length) {
    size_t place = below(length + 1), n, from;
    switch (below(7)) {
    case 0: /* one byte changed */
        if (length) at[below(length)] ^= (unsigned char)(1u << below(8));
        return length;
    case 1:
        if (length) at[below(length)] = (unsigned char)next_random();
        return length;
    case 2: { /* a word put in; the one with NUL has one byte */
        const char *word = words[below(WORDS)];
        return insert(at, length, place, word, *word ? strlen(word) : 1);
    }
    case 3: /* a piece left out */
        n = below(length - place + 1) % 16;
        memmove(at + place, at + place + n, length - place - n);
        return length - n;
    case 4: { /* a piece said again */
        unsigned char piece[256];
        n = below(length - place + 1) % sizeof piece;
        memcpy(piece, at + place, n);
        return insert(at, length, place, piece, n);
    }
    case 5: /* a piece of another input */
        from = below(files);
        n = below(corpus[from].length + 1);
        return insert(at, length, place, corpus[from].data + corpus[from].length - n, n > 2000 ? 2000 : n);
    default: /* cut short */
        return place;
    }
}

static void load(const char *path) {
    FILE *file = fopen(path, "rb");
    static unsigned char buffer[MAX_BYTES];
    if (file == NULL || files == MAX_FILES) {
        fprintf(stderr, "cannot take %s\n", path);
        exit(2);
    }
    corpus[files].length = fread(buffer, 1, sizeof buffer, file);
    corpus[files].data = malloc(corpus[files].length + 1);
    memcpy(corpus[files].data, buffer, corpus[files].length);
    files++;
    fclose(file);
}

static void keep_last(void) {
    int fd = open("fuzz-last.map", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || ftruncate(fd, MAX_BYTES + sizeof(size_t)) < 0) exit(2);
    last = mmap(NULL, MAX_BYTES + sizeof(size_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
}

int main(int argc, char **argv) {
    static unsigned char input[MAX_BYTES];
    size_t length, i;
    uint64_t runs = 0;
    time_t until;
    if (argc < 4) {
        fprintf(stderr, "usage: fuzz SECONDS SEED FILE...\n");
        return 2;
    }
    state = strtoull(argv[2], NULL, 10) | 1;
    for (i = 3; i < (size_t)argc; i++) load(argv[i]);
    keep_last();
    for (i = 0; i < files; i++) run(corpus[i].data, corpus[i].length);
    until = time(NULL) + atoi(argv[1]);
    while (time(NULL) < until) {
        int batch;
        for (batch = 0; batch < 2000; batch++, runs++) {
            int times = 1 + (int)below(6);
            i = below(files);
            length = corpus[i].length;
            memcpy(input, corpus[i].data, length);
            while (times--) length = mutate(input, length);
            run(input, length);
        }
    }
    printf("%zu files, %llu mutations\n", files, (unsigned long long)runs);
    return 0;
}
#endif
