/*
 * Messages as they lie on the wire. The frames are made here once more, byte by byte, so that the library is
 * never measured by itself. And many clients in a process of their own.
 */
#ifndef TEST_WIRE_H
#define TEST_WIRE_H

#include "support.h"

/* ---- Framings -------------------------------------------------------------------------------- */

typedef struct wire {
    const char *query;      /* as a URL says it */
    int32_t framing;        /* AHOY_FRAMING_… */
    uint32_t length_bytes;  /* with AHOY_FRAMING_LENGTH */
    int32_t length_order;
    const char *delimiter;  /* with AHOY_FRAMING_DELIMITER: a string */
    size_t message_max;     /* the longest message that the frame can hold; SIZE_MAX: any */
} wire;

/* Every framing that has frames, in every width and order. */
enum { WIRES = 8 };
extern const wire wires[WIRES];
extern const wire wire_raw;

/* A frame is at most so much longer than its message. */
enum { WIRE_FRAME_MAX = 64 };

/* Writes one message with its frame to `out`: the bytes written. */
size_t wire_encode(const wire *wire, const void *data, size_t len, void *out);

/* Sends one message, or waits for one and checks it, byte by byte. */
void wire_send(const wire *wire, int fd, const void *data, size_t len);
void wire_expect(const wire *wire, int fd, const void *data, size_t len);

/* The same framing in the options of a server; the particulars live as long as `particulars`. */
void wire_options(const wire *wire, ahoy_server_options *options, ahoy_framing_options *particulars);

/* As pattern_fill and pattern_matches, of letters: in no framing do they mean anything. */
void letters_fill(void *data, size_t len, size_t offset);
bool letters_match(const void *data, size_t len, size_t offset);

/* Connects to the n-th listener of a server. */
int dial_listener(ahoy_server server, size_t index);

/* Sends in pieces of `piece` bytes; each is read by the server before the next is sent. No one else sends. */
void send_pieces(ahoy_server server, int fd, const void *data, size_t len, size_t piece);

/* ---- What came ------------------------------------------------------------------------------- */

/*
 * The messages of one connection at a time, in order, each followed by '|'; bytes that do not print as \xNN. The
 * tally comes first: a journal will do as the `user` of the tally_… callbacks.
 */
typedef struct journal {
    tally seen;
    size_t used;
    char text[8192];
} journal;

#define JOURNAL_INIT { .seen = TALLY_INIT }

void journal_message(ahoy_conn conn, const void *data, size_t len, void *user);

/* ---- The rest -------------------------------------------------------------------------------- */

/* A number below `bound` from a sequence that the seed decides alone. */
uint32_t random_below(uint64_t *state, uint32_t bound);

/* Memory of this process that is resident. */
size_t resident_bytes(void);

/* Another connection opens and closes on the same worker: what the worker had to do before is done. */
void round_trip(ahoy_server server);

/* ---- Crowds ---------------------------------------------------------------------------------- */

/* Clients in a process of their own, so that neither side runs out of descriptors. */
typedef struct crowd {
    int orders;
    pid_t process;
    long count;
} crowd;

/* To be called before this process has used the library: it forks. */
crowd crowd_begin(long count);

/*
 * Connects each of them to the server, which adopts the other ends. Their buffers are the smallest that the system
 * allows: ten thousand peers that do not read would hold gigabytes of the system's memory otherwise.
 */
void crowd_join(crowd *crowd, ahoy_server server);

/* Each reads exactly so many bytes of a pattern from `offset` on; returns when all have. */
void crowd_read(crowd *crowd, size_t bytes, size_t offset);

/* All of them leave. */
void crowd_end(crowd *crowd);

#endif
