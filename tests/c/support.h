/*
 * What every test program shares: checks that say where they failed, latches to wait on, a small
 * blocking client, and counts of what the process holds.
 *
 * No test waits for time. Each waits for a condition, under one deadline for the whole program.
 */
#ifndef TEST_SUPPORT_H
#define TEST_SUPPORT_H

#include <ahoy.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>

/* Clang says it in its own way. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

/* ---- Checks ---------------------------------------------------------------------------------- */

#define CHECK(expression) ((expression) ? (void)0 : check_failed(__FILE__, __LINE__, #expression))

/* Both sides are whole numbers; a failure prints them. */
#define CHECK_EQ(actual, expected) \
    check_equal(__FILE__, __LINE__, #actual, #expected, (long long)(actual), (long long)(expected))

/* Both sides are statuses; a failure prints their names. */
#define CHECK_STATUS(actual, expected) \
    check_status(__FILE__, __LINE__, #actual, (actual), (expected))

#define CHECK_OK(actual) CHECK_STATUS(actual, AHOY_OK)

/* Both sides are strings. */
#define CHECK_TEXT(actual, expected) \
    check_text(__FILE__, __LINE__, #actual, (actual), (expected))

/* Asks again until `condition` holds; the program's deadline is the limit. */
#define WAIT_UNTIL(condition)                                          \
    do {                                                               \
        wait_begin(__FILE__, __LINE__, #condition);                    \
        while (!(condition)) wait_moment();                            \
        wait_end();                                                    \
    } while (0)

_Noreturn void check_failed(const char *file, int line, const char *what);
void check_equal(const char *file, int line, const char *what, const char *wanted, long long actual,
                 long long expected);
void check_status(const char *file, int line, const char *what, int32_t actual, int32_t expected);
void check_text(const char *file, int line, const char *what, const char *actual,
                const char *expected);
void wait_begin(const char *file, int line, const char *what);
void wait_moment(void);
void wait_end(void);

/* Every program starts with a deadline of 60 s (times TEST_SCALE); this sets another. */
void deadline_seconds(unsigned seconds);

/* `count`, divided by TEST_ROUNDS_DIVISOR, which is set under slow tools; at least 1. */
long rounds(long count);

/* True under a slow tool: there is no telling how long anything takes. */
bool is_slow(void);

/* Milliseconds of a clock that only goes forward. */
long now_ms(void);

/* Ends the program: here and now it can show nothing. The runner counts it as skipped. */
_Noreturn void skip_test(const char *reason);

/* ---- Latches --------------------------------------------------------------------------------- */

/* A counter that other threads can wait for. */
typedef struct latch {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    long count;
} latch;

#define LATCH_INIT { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0 }

void latch_add(latch *latch, long amount);
long latch_count(latch *latch);

/* Waits until the count is at least `count`. */
#define latch_wait(l, n) latch_wait_at(__FILE__, __LINE__, #l " >= " #n, (l), (n))
void latch_wait_at(const char *file, int line, const char *what, latch *latch, long count);

/* ---- Servers --------------------------------------------------------------------------------- */

#define OPTIONS(...) \
    ((ahoy_server_options){ .size = sizeof(ahoy_server_options), __VA_ARGS__ })

#define LOOPBACK "tcp://127.0.0.1:0"

/* Starts a server, or fails the test. */
ahoy_server start(ahoy_server_options options);

/* Whether there is io_uring here. */
bool has_uring(void);

/* Skips what follows where there is none. */
void need_uring(void);

/* The counts of a server, or fails the test. */
ahoy_stats stats_of(ahoy_server server);

/* What the callbacks of a server have seen; the `user` of the tally_… callbacks. */
typedef struct tally {
    latch opened, messages, bytes, writable, ended, closed, freed;
    _Atomic uint64_t conn;           /* the connection opened last */
    _Atomic int32_t reason;          /* of the connection closed last */
    _Atomic long reasons[64];        /* closes by reason: reasons[-reason] */
} tally;

#define TALLY_INIT                                                                            \
    { .opened = LATCH_INIT, .messages = LATCH_INIT, .bytes = LATCH_INIT,                      \
      .writable = LATCH_INIT, .ended = LATCH_INIT, .closed = LATCH_INIT, .freed = LATCH_INIT }

void tally_open(ahoy_conn conn, void *user);
void tally_message(ahoy_conn conn, const void *data, size_t len, void *user);
void tally_writable(ahoy_conn conn, void *user);
void tally_end(ahoy_conn conn, void *user);
void tally_close(ahoy_conn conn, ahoy_status reason, void *user);
void tally_free(void *user);
ahoy_conn tally_conn(tally *tally);

/* Counts as tally_message does, and sends the message back. */
void tally_echo(ahoy_conn conn, const void *data, size_t len, void *user);

/* An ahoy_free_fn whose `user` is a latch. */
void count_free(void *counter);

/* ---- Clients --------------------------------------------------------------------------------- */

/* The address that a URL means: tcp:// or udp:// with a numeric host; /path or @name behind unix: or unixgram:. */
socklen_t url_parse(const char *url, struct sockaddr_storage *name);

/* Connects to the URL of a stream socket. */
int dial_url(const char *url);

/* Connects to the first listener of a server. */
int dial(ahoy_server server);

/* As dial_url, but answers -errno instead of failing the test. */
int try_dial_url(const char *url);

/* Connects a socket of the URL's family. */
void connect_url(int fd, const char *url);

void send_all(int fd, const void *data, size_t len);
void recv_exact(int fd, void *buffer, size_t len);

/* Reads until the end: the number of bytes, all of them kept while they fit; -errno after an error. */
ssize_t recv_until_eof(int fd, void *buffer, size_t capacity);

/* Closes with a reset (RST) instead of an end (FIN). */
void close_reset(int fd);

/* Two connected stream sockets. */
void stream_pair(int pair[2]);

/* Bytes that tell where in the stream they belong. */
void pattern_fill(void *data, size_t len, size_t offset);
bool pattern_matches(const void *data, size_t len, size_t offset);

/* A name in Linux's abstract space, free and this process's own: "unix:@…". The buffer is static. */
const char *abstract_url(void);

/* A fresh folder, removed by remove_folder. The buffer is static. */
const char *make_folder(void);
void remove_folder(void);

/*
 * Ends a child after fork, well. Valgrind would look for leaks there and take for lost what only the
 * parent's other threads know.
 */
_Noreturn void leave_child(void);

/* ---- The process ----------------------------------------------------------------------------- */

int descriptors_open(void);
int threads_running(void);

/* Raises the limit of descriptors to `count`, or as far as it goes: to what. */
unsigned descriptors_up_to(unsigned count);

/* The same, or false. */
bool descriptors_allow(unsigned count);

/* Fails the test unless the process holds as many descriptors and threads as this says. */
typedef struct holdings {
    int descriptors, threads;
} holdings;
holdings holdings_now(void);
#define CHECK_HOLDINGS(before) check_holdings(__FILE__, __LINE__, (before))
void check_holdings(const char *file, int line, holdings before);

#endif
