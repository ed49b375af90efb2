/*
 * In the steady state a message takes no memory and gives none back, whatever its framing and however it is answered:
 * each call of the library's for memory is counted here, on the worker's thread.
 */
#include "wire.h"

#include <errno.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
int main(void) {
    skip_test("a sanitizer has an allocator of its own");
}
#else

/* ---- The allocator --------------------------------------------------------------------------- */

void *__libc_malloc(size_t len);
void *__libc_calloc(size_t count, size_t len);
void *__libc_realloc(void *memory, size_t len);
void *__libc_memalign(size_t alignment, size_t len);
void __libc_free(void *memory);

static _Thread_local bool is_worker;
static _Atomic long calls;

static void count_call(void) {
    if (is_worker) calls++;
}

void *malloc(size_t len) {
    return count_call(), __libc_malloc(len);
}

void *calloc(size_t count, size_t len) {
    return count_call(), __libc_calloc(count, len);
}

void *realloc(void *memory, size_t len) {
    return count_call(), __libc_realloc(memory, len);
}

void *aligned_alloc(size_t alignment, size_t len) {
    return count_call(), __libc_memalign(alignment, len);
}

int posix_memalign(void **memory, size_t alignment, size_t len) {
    count_call();
    *memory = __libc_memalign(alignment, len);
    return *memory ? 0 : ENOMEM;
}

void free(void *memory) {
    count_call(), __libc_free(memory);
}

/* ---- The worker ------------------------------------------------------------------------------ */

enum answer { SENT, IN_PARTS, OWNED, ANSWERS };

static enum answer answer;
static const wire *spoken;

enum { CONNS = 4, BATCH = 16, MESSAGE_BYTES = 64, ROUNDS_BEFORE = 100, ROUNDS = 500, TRIES_MAX = 4 };

static char message[MESSAGE_BYTES];

/* Its calls are this thread's, and are counted. */
static void on_open(ahoy_conn conn, void *user) {
    (void)conn, (void)user;
    is_worker = true;
    long before = calls;
    void *volatile memory = malloc(1);
    free(memory);
    CHECK_EQ(calls, before + 2);
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)user;
    const char *bytes = data;
    const ahoy_part parts[] = { { bytes, 1 }, { bytes + 1, len - 2 }, { bytes + len - 1, 1 } };
    if (answer == SENT) CHECK_OK(ahoy_send(conn, data, len));
    else if (answer == IN_PARTS) CHECK_OK(ahoy_send_parts(conn, parts, 3));
    else CHECK_OK(ahoy_send_owned(conn, message, sizeof message, NULL, NULL));
}

/* ---- The clients ----------------------------------------------------------------------------- */

/* Without framing a batch is one message. */
static size_t encode_batch(char *out) {
    char *end = out;
    int count = spoken->framing == AHOY_FRAMING_RAW ? 1 : BATCH;
    for (int i = 0; i < count; i++) end += wire_encode(spoken, message, sizeof message, end);
    return (size_t)(end - out);
}

static void converse(const int *fds, const char *batch, size_t len, long rounds) {
    char got[BATCH * (MESSAGE_BYTES + WIRE_FRAME_MAX)];
    for (long round = 0; round < rounds; round++) {
        for (int i = 0; i < CONNS; i++) send_all(fds[i], batch, len);
        for (int i = 0; i < CONNS; i++) {
            recv_exact(fds[i], got, len);
            CHECK(!memcmp(got, batch, len));
        }
    }
}

static void steady(int32_t driver) {
    ahoy_framing_options particulars;
    ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .driver = driver, .on_open = on_open,
                                          .on_message = on_message);
    wire_options(spoken, &options, &particulars);
    ahoy_server server = start(options);
    char batch[BATCH * (MESSAGE_BYTES + WIRE_FRAME_MAX)];
    size_t len = encode_batch(batch);
    int fds[CONNS];
    for (int i = 0; i < CONNS; i++) fds[i] = dial(server);

    converse(fds, batch, len, ROUNDS_BEFORE);
    /* A list may still grow, to stay so, if the turns had never had so much to do; but not again and again. */
    long more = 1;
    for (int i = 0; more && i < TRIES_MAX; i++) {
        long before = calls;
        converse(fds, batch, len, ROUNDS);
        more = calls - before;
    }
    if (more) fprintf(stderr, "%s, %s, answer %d\n", ahoy_server_driver(server), spoken->query, answer);
    CHECK_EQ(more, 0);

    for (int i = 0; i < CONNS; i++) close(fds[i]);
    ahoy_server_free(server);
}

static void steady_everywhere(int32_t driver) {
    for (answer = 0; answer < ANSWERS; answer++) {
        spoken = &wire_raw;
        steady(driver);
        for (spoken = wires; spoken < wires + WIRES; spoken++) steady(driver);
    }
}

int main(void) {
    if (getenv("TEST_VALGRIND")) skip_test("valgrind has an allocator of its own");
    letters_fill(message, sizeof message, 0);
    steady_everywhere(AHOY_DRIVER_EPOLL);
    if (has_uring()) steady_everywhere(AHOY_DRIVER_URING);
    else puts("note: no io_uring here: on epoll only");
    return 0;
}
#endif
