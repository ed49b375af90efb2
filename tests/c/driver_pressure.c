/*
 * More at once than a driver has room for at once: more bytes than its buffers hold, more connections that speak than it
 * has places for what they say, and pauses in the middle of all that. Nothing is lost, and each stream keeps its order.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { STREAMS = 48, STREAM_BYTES = 2 << 20, SPEAKERS = 5000, PIECE = 64 << 10 };

typedef struct stream {
    size_t received;
    long messages;
    int fd;
} stream;

static stream streams[STREAMS];
static atomic_int opened;
static latch done = LATCH_INIT, woken = LATCH_INIT;
static latch blocked = LATCH_INIT, go_on = LATCH_INIT;

static void on_open(ahoy_conn conn, void *user) {
    (void)user;
    CHECK_OK(ahoy_conn_set_user(conn, &streams[opened++], NULL));
}

static void on_resume(ahoy_timer timer, ahoy_conn conn, void *user) {
    (void)timer, (void)user;
    CHECK_OK(ahoy_conn_resume(conn));
    latch_add(&woken, 1);
}

/* Every fourth message is followed by a pause: of no time at all, or of a millisecond. */
static void on_bytes(ahoy_conn conn, const void *data, size_t len, void *user) {
    stream *stream = user;
    CHECK(pattern_matches(data, len, stream->received));
    stream->received += len;
    if (++stream->messages % 4 == 0) {
        CHECK_OK(ahoy_conn_pause(conn));
        if (stream->messages % 8) CHECK_OK(ahoy_conn_resume(conn));
        else CHECK_OK(ahoy_conn_timer_start(conn, 1, 0, on_resume, NULL, NULL, NULL));
    }
}

static void on_close(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn;
    CHECK_STATUS(reason, AHOY_ERR_EOF);
    CHECK_EQ(((stream *)user)->received, STREAM_BYTES);
    latch_add(&done, 1);
}

static void *pour(void *user) {
    static _Thread_local char piece[PIECE];
    stream *stream = user;
    for (size_t sent = 0; sent < STREAM_BYTES; sent += sizeof piece) {
        pattern_fill(piece, sizeof piece, sent);
        send_all(stream->fd, piece, sizeof piece);
    }
    close(stream->fd);
    return NULL;
}

/* Together they send many times what the buffers of two workers hold. */
static void many_bytes(int32_t driver) {
    pthread_t threads[STREAMS];
    opened = 0;
    memset(streams, 0, sizeof streams);
    done = (latch)LATCH_INIT, woken = (latch)LATCH_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .on_open = on_open, .on_message = on_bytes,
                                       .on_close = on_close, .driver = driver));
    /* Which stream a connection is does not matter: all send the same. */
    for (int i = 0; i < STREAMS; i++) streams[i].fd = dial(server);
    for (int i = 0; i < STREAMS; i++) CHECK(!pthread_create(&threads[i], NULL, pour, &streams[i]));
    for (int i = 0; i < STREAMS; i++) CHECK(!pthread_join(threads[i], NULL));
    latch_wait(&done, STREAMS);
    CHECK(latch_count(&woken) > 0);
    ahoy_server_free(server);
}

static void on_word(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)user;
    if (*(const char *)data == 'b') {
        latch_add(&blocked, 1);
        latch_wait(&go_on, 1);
    }
    CHECK_OK(ahoy_send(conn, data, len));
}

/* The one worker is busy while thousands speak: it has more to hear at once than fits anywhere. */
static void many_words(int32_t driver) {
    static int fds[SPEAKERS];
    int count = (int)rounds(SPEAKERS);
    char answer;
    blocked = (latch)LATCH_INIT, go_on = (latch)LATCH_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .on_message = on_word, .driver = driver,
                                       .connections_max = SPEAKERS + 1));
    for (int i = 0; i < count; i++) fds[i] = dial(server);
    for (int i = 0; i < count; i++) {
        send_all(fds[i], "x", 1);
        recv_exact(fds[i], &answer, 1);
    }
    int blocker = dial(server);
    send_all(blocker, "b", 1);
    latch_wait(&blocked, 1);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < count; i++) send_all(fds[i], "y", 1);
    }
    latch_add(&go_on, 1);
    for (int i = 0; i < count; i++) {
        for (int round = 0; round < 3; round++) {
            recv_exact(fds[i], &answer, 1);
            CHECK_EQ(answer, 'y');
        }
    }
    recv_exact(blocker, &answer, 1);
    ahoy_server_free(server);
    for (int i = 0; i < count; i++) close(fds[i]);
    close(blocker);
}

int main(void) {
    deadline_seconds(120);
    if (!descriptors_allow(2 * SPEAKERS + 100)) skip_test("too few descriptors");
    many_bytes(AHOY_DRIVER_EPOLL), many_words(AHOY_DRIVER_EPOLL);
    need_uring();
    many_bytes(AHOY_DRIVER_URING), many_words(AHOY_DRIVER_URING);
    return 0;
}
