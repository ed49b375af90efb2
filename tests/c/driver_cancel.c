/*
 * What the kernel is told to end, at the very moment at which it has something: streams are paused and resumed by other
 * threads while bytes come, and closed while bytes come. No byte is lost, told twice or told to somebody else, and
 * each connection has one on_close, the last that is heard of it.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

enum { STREAMS = 8, STREAM_BYTES = 1 << 20, PIECE = 3001, WAVES = 200, WAVE = 32, WORDS = 3 };

/* ---- Pauses ---------------------------------------------------------------------------------- */

typedef struct stream {
    _Atomic uint64_t conn;
    size_t received;
    int fd;
} stream;

static stream streams[STREAMS];
static atomic_bool poured;
static latch whole;

static void on_bytes(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)conn;
    stream *stream = user;
    CHECK(pattern_matches(data, len, stream->received));
    stream->received += len;
    if (stream->received == STREAM_BYTES) latch_add(&whole, 1);
}

static void on_stream_close(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn;
    CHECK_STATUS(reason, AHOY_ERR_EOF);
    CHECK_EQ(((stream *)user)->received, STREAM_BYTES);
    latch_add(&whole, 1);
}

static void *pour(void *user) {
    static _Thread_local char piece[PIECE];
    stream *stream = user;
    for (size_t sent = 0; sent < STREAM_BYTES;) {
        size_t len = STREAM_BYTES - sent < sizeof piece ? STREAM_BYTES - sent : sizeof piece;
        pattern_fill(piece, len, sent);
        send_all(stream->fd, piece, len);
        sent += len;
    }
    return NULL;
}

/*
 * Its half of the streams is paused and resumed, on and on. In no fixed order: a mailbox that is filled by a fixed one is full
 * at the same stream each time, and that would be found paused whenever the worker looks.
 */
static void *flip(void *user) {
    unsigned first = (unsigned)(size_t)user, seed = first;
    while (!poured) {
        unsigned i = first + 2 * ((unsigned)rand_r(&seed) % (STREAMS / 2));
        while (ahoy_conn_pause((ahoy_conn){ streams[i].conn }) == AHOY_ERR_AGAIN) wait_moment();
        while (ahoy_conn_resume((ahoy_conn){ streams[i].conn }) == AHOY_ERR_AGAIN) wait_moment();
    }
    return NULL;
}

static void pauses(int32_t driver) {
    pthread_t pouring[STREAMS], flipping[2];
    memset(streams, 0, sizeof streams);
    whole = (latch)LATCH_INIT, poured = false;
    ahoy_server server = start(OPTIONS(.workers = 2, .on_message = on_bytes, .on_close = on_stream_close, .driver = driver));
    for (int i = 0; i < STREAMS; i++) {
        int pair[2];
        ahoy_conn conn;
        stream_pair(pair);
        streams[i].fd = pair[1];
        CHECK_OK(ahoy_server_adopt(server, pair[0], &conn));
        CHECK_OK(ahoy_conn_set_user(conn, &streams[i], NULL));
        streams[i].conn = conn.id;
    }
    for (size_t i = 0; i < 2; i++) CHECK(!pthread_create(&flipping[i], NULL, flip, (void *)i));
    for (int i = 0; i < STREAMS; i++) CHECK(!pthread_create(&pouring[i], NULL, pour, &streams[i]));
    for (int i = 0; i < STREAMS; i++) CHECK(!pthread_join(pouring[i], NULL));
    latch_wait(&whole, STREAMS);
    poured = true;
    for (size_t i = 0; i < 2; i++) CHECK(!pthread_join(flipping[i], NULL));
    for (int i = 0; i < STREAMS; i++) close(streams[i].fd);
    latch_wait(&whole, 2 * STREAMS);
    ahoy_server_free(server);
}

/* ---- Closes ---------------------------------------------------------------------------------- */

/* A connection of a wave: all that it hears is its own number, as often as its peer has said it, or less often. */
typedef struct life {
    _Atomic uint64_t conn;
    int fd;
    int words, closed;
} life;

static life lives[WAVE];
static latch heard, ended;
static int wave_first;

static void on_word(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)user;
    CHECK_EQ(len % sizeof(int), 0);
    for (size_t at = 0; at < len; at += sizeof(int)) {
        int number;
        memcpy(&number, (const char *)data + at, sizeof number);
        CHECK(number >= wave_first && number < wave_first + WAVE);
        life *life = &lives[number - wave_first];
        CHECK_EQ(life->closed, 0);
        if (life->words++ == 0) {
            life->conn = conn.id;
            latch_add(&heard, 1);
        }
        CHECK_EQ(life->conn, conn.id);
    }
}

static void on_life_close(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)user;
    CHECK(reason == AHOY_OK || reason == AHOY_ERR_EOF || reason == AHOY_ERR_RESET);
    for (int i = 0; i < WAVE; i++) {
        if (lives[i].conn == conn.id) CHECK_EQ(lives[i].closed++, 0);
    }
    latch_add(&ended, 1);
}

static void *say_more(void *user) {
    int first = *(int *)user;
    for (int word = 1; word < WORDS; word++) {
        for (int i = 0; i < WAVE; i++) {
            int number = first + i;
            (void)!send(lives[i].fd, &number, sizeof number, MSG_NOSIGNAL);
        }
    }
    return NULL;
}

/* Each way to end a connection, or not to. */
static void end_one(int i) {
    ahoy_conn conn = { lives[i].conn };
    ahoy_status status;
    switch (i % 4) {
    case 0: status = ahoy_conn_close(conn); break;
    case 1: status = ahoy_conn_abort(conn); break;
    case 2:
        CHECK_OK(ahoy_conn_pause(conn));
        status = ahoy_conn_close(conn);
        break;
    default: return;
    }
    CHECK_OK(status);
}

static void closes(int32_t driver) {
    heard = (latch)LATCH_INIT, ended = (latch)LATCH_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .on_message = on_word, .on_close = on_life_close,
                                       .driver = driver));
    long waves = rounds(WAVES);
    for (long wave = 0; wave < waves; wave++) {
        pthread_t speaker;
        int first = (int)wave * WAVE;
        wave_first = first;
        for (int i = 0; i < WAVE; i++) {
            int number = first + i;
            lives[i] = (life){ .fd = dial(server) };
            send_all(lives[i].fd, &number, sizeof number);
        }
        latch_wait(&heard, (wave + 1) * WAVE);
        CHECK(!pthread_create(&speaker, NULL, say_more, &first));
        for (int i = 0; i < WAVE; i++) end_one(i);
        CHECK(!pthread_join(speaker, NULL));
        for (int i = 0; i < WAVE; i++) {
            if (i % 8 == 3) close_reset(lives[i].fd);
            else close(lives[i].fd);
        }
        latch_wait(&ended, (wave + 1) * WAVE);
        for (int i = 0; i < WAVE; i++) {
            CHECK_EQ(lives[i].closed, 1);
            CHECK(lives[i].words <= WORDS);
            /* An orderly end: nothing of it is lost. */
            if (i % 8 == 7) CHECK_EQ(lives[i].words, WORDS);
        }
    }
    CHECK_EQ(latch_count(&ended), waves * WAVE);
    WAIT_UNTIL(stats_of(server).connections == 0); /* on_close is called before */
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&ended), waves * WAVE);
}

int main(void) {
    deadline_seconds(120);
    pauses(AHOY_DRIVER_EPOLL), closes(AHOY_DRIVER_EPOLL);
    need_uring();
    pauses(AHOY_DRIVER_URING), closes(AHOY_DRIVER_URING);
    return 0;
}
