/*
 * on_drain: at a stop each open connection is told, once, and stays open: messages still come, sends are still taken,
 * until the program closes it or the time is over. A second stop shortens the time. Without on_drain a stop is as
 * it was.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { CONNS = 6, DRAIN_MS = 150 };

static tally seen;
static latch drained;
static uint64_t drained_conns[1000];
static atomic_bool close_at_once;

static void on_drain(ahoy_conn conn, void *user) {
    (void)user;
    CHECK_OK(ahoy_send(conn, "bye?", 4));
    if (close_at_once) CHECK_OK(ahoy_conn_close(conn));
    latch_add(&drained, 1);
}

static void note_drain(ahoy_conn conn, void *user) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&mutex);
    long place = latch_count(&drained);
    CHECK(place < 1000);
    for (long i = 0; i < place; i++) CHECK(drained_conns[i] != conn.id);
    drained_conns[place] = conn.id;
    on_drain(conn, user);
    pthread_mutex_unlock(&mutex);
}

/* "close" closes; anything else comes back. */
static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    CHECK_OK(ahoy_send(conn, data, len));
    if (len == 5 && memcmp(data, "close", 5) == 0) CHECK_OK(ahoy_conn_close(conn));
    tally_message(conn, data, len, user);
}

static ahoy_server begin(int32_t workers, ahoy_drain_fn on_drain, int *fds, int count) {
    seen = (tally)TALLY_INIT;
    drained = (latch)LATCH_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = workers, .user = &seen,
                                       .drain_ms = DRAIN_MS, .on_open = tally_open, .on_message = on_message,
                                       .on_drain = on_drain, .on_close = tally_close, .on_free = tally_free));
    for (int i = 0; i < count; i++) {
        fds[i] = dial(server);
        if (workers != AHOY_WORKERS_NONE) latch_wait(&seen.opened, i + 1);
    }
    return server;
}

static void check_end(int fd) {
    char byte;
    CHECK_EQ(recv_until_eof(fd, &byte, 1), 0);
    close(fd);
}

static void expect(int fd, const char *text) {
    char got[16] = "";
    recv_exact(fd, got, strlen(text));
    CHECK_TEXT(got, text);
}

static bool is_refused(const char *url) {
    int fd = try_dial_url(url);
    if (fd >= 0) close(fd);
    return fd < 0;
}

static void until_the_program_closes(void) {
    int fds[CONNS], pair[2];
    char url[128];
    ahoy_server server = begin(2, note_drain, fds, CONNS);
    ahoy_conn last = tally_conn(&seen);
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    CHECK_OK(ahoy_server_stop(server, 60000));
    CHECK_OK(ahoy_server_stop(server, 60000)); /* nobody is told twice */
    latch_wait(&drained, CONNS);

    /* No more come in; who came just before is told like all others. */
    WAIT_UNTIL(is_refused(url));
    stream_pair(pair);
    CHECK_STATUS(ahoy_server_adopt(server, pair[0], NULL), AHOY_ERR_STOPPED);
    close(pair[0]), close(pair[1]);

    for (int i = 0; i < CONNS; i++) {
        expect(fds[i], "bye?");
        for (int round = 0; round < 3; round++) {
            send_all(fds[i], "talk", 4);
            expect(fds[i], "talk");
        }
    }
    CHECK_OK(ahoy_send(last, "push", 4)); /* from here, too */
    expect(fds[CONNS - 1], "push");
    CHECK(latch_count(&seen.closed) <= latch_count(&seen.opened) - CONNS);
    for (int i = 0; i < CONNS; i++) {
        if (i == 0) { /* a peer that leaves is as good */
            close(fds[i]);
            continue;
        }
        send_all(fds[i], "close", 5);
        expect(fds[i], "close");
        check_end(fds[i]);
    }
    CHECK_OK(ahoy_server_wait(server)); /* not for the minute */
    CHECK_EQ(latch_count(&seen.closed), latch_count(&seen.opened));
    CHECK_EQ(latch_count(&seen.freed), 1);
    CHECK(latch_count(&drained) >= CONNS && latch_count(&drained) <= latch_count(&seen.opened));
    CHECK_EQ(seen.reasons[-AHOY_OK] + seen.reasons[-AHOY_ERR_STOPPED], CONNS - 1);
    CHECK(seen.reasons[-AHOY_ERR_EOF] >= 1);
    ahoy_server_free(server);
}

static void until_the_time_is_over(int32_t drain_ms) {
    int fds[CONNS];
    ahoy_server server = begin(2, on_drain, fds, CONNS);
    long begin_ms = now_ms();
    CHECK_OK(ahoy_server_stop(server, drain_ms));
    CHECK_OK(ahoy_server_wait(server));
    long spent = now_ms() - begin_ms;
    CHECK(spent >= DRAIN_MS);
    if (!is_slow()) CHECK(spent < 5 * DRAIN_MS);
    CHECK_EQ(latch_count(&drained), CONNS);
    CHECK_EQ(seen.reasons[-AHOY_ERR_STOPPED], CONNS);
    for (int i = 0; i < CONNS; i++) {
        expect(fds[i], "bye?");
        check_end(fds[i]);
    }
    CHECK_EQ(stats_of(server).bytes_cut, 0); /* nobody had bytes left */
    ahoy_server_free(server);
}

static void a_second_stop_shortens(bool by_free) {
    int fds[CONNS];
    ahoy_server server = begin(2, on_drain, fds, CONNS);
    CHECK_OK(ahoy_server_stop(server, 3600000));
    latch_wait(&drained, CONNS);
    CHECK_EQ(latch_count(&seen.closed), 0);
    long begin_ms = now_ms();
    if (!by_free) {
        CHECK_OK(ahoy_server_stop(server, 0));
        CHECK_OK(ahoy_server_wait(server));
    }
    ahoy_server_free(server);
    CHECK(now_ms() - begin_ms < 30000);
    CHECK_EQ(latch_count(&seen.closed), CONNS);
    CHECK_EQ(latch_count(&drained), CONNS);
    CHECK_EQ(latch_count(&seen.freed), 1);
    for (int i = 0; i < CONNS; i++) close(fds[i]);
}

static void closed_in_on_drain(int32_t workers) {
    int fds[CONNS];
    close_at_once = true;
    ahoy_server server = begin(workers, on_drain, fds, CONNS);
    while (workers == AHOY_WORKERS_NONE && latch_count(&seen.opened) < CONNS) {
        CHECK_OK(ahoy_server_turn(server, 1000));
    }
    CHECK_OK(ahoy_server_stop(server, 3600000));
    CHECK_OK(ahoy_server_wait(server));
    close_at_once = false;
    CHECK_EQ(latch_count(&drained), CONNS);
    CHECK_EQ(latch_count(&seen.closed), CONNS);
    for (int i = 0; i < CONNS; i++) {
        expect(fds[i], "bye?");
        check_end(fds[i]);
    }
    ahoy_server_free(server);
}

/* One that is closing already is not told. */
static void who_closes_is_not_told(void) {
    static char answer[1 << 20], got[1 << 20];
    int fds[2];
    ahoy_server server = begin(1, on_drain, fds, 2);
    ahoy_conn conn = tally_conn(&seen);
    CHECK_OK(ahoy_send(conn, answer, sizeof answer));
    CHECK_OK(ahoy_conn_close(conn)); /* takes as long as the peer does not read, up to drain_ms */
    CHECK_OK(ahoy_server_stop(server, AHOY_DRAIN_DEFAULT));
    expect(fds[0], "bye?");
    CHECK_EQ(recv_until_eof(fds[1], got, sizeof got), sizeof answer);
    CHECK_OK(ahoy_server_wait(server));
    CHECK_EQ(latch_count(&drained), 1);
    close(fds[0]), close(fds[1]);
    ahoy_server_free(server);
}

static void without_it(void) {
    int fds[CONNS];
    ahoy_server server = begin(2, NULL, fds, CONNS);
    CHECK_OK(ahoy_server_stop(server, 3600000));
    CHECK_OK(ahoy_server_wait(server));
    CHECK_EQ(seen.reasons[-AHOY_ERR_STOPPED], CONNS);
    for (int i = 0; i < CONNS; i++) check_end(fds[i]);
    ahoy_server_free(server);
}

int main(void) {
    until_the_program_closes();
    until_the_time_is_over(AHOY_DRAIN_DEFAULT);
    until_the_time_is_over(DRAIN_MS);
    a_second_stop_shortens(false);
    a_second_stop_shortens(true);
    closed_in_on_drain(2);
    closed_in_on_drain(AHOY_WORKERS_NONE);
    who_closes_is_not_told();
    without_it();
    return 0;
}
