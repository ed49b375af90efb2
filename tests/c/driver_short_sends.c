/*
 * The system takes a little of what there is to send, and then a little more: hundreds of pieces, each in memory of its
 * own, through a socket with hardly any room to a peer that reads in small bites. All arrives, in order, and each piece is
 * freed once.
 */
#include "support.h"

#include <sys/socket.h>
#include <unistd.h>

/* More pieces than one order to send can name, again and again. */
enum { PIECES = 700, PIECE_BYTES_MAX = 3000, BUFFER_BYTES = 4096, BITE_BYTES_MAX = 1777 };

static tally seen;
static size_t total;
static atomic_int freed[PIECES];

/* Of every length, also of one byte, and now and then of more than a socket has room for. */
static size_t length_of(int piece) {
    return piece % 50 == 49 ? 60000 : (size_t)(1 + piece * 677 % PIECE_BYTES_MAX);
}

typedef struct piece {
    int number;
    char bytes[];
} piece;

static void free_piece(void *memory) {
    CHECK_EQ(freed[((piece *)memory)->number]++, 0);
    free(memory);
}

/* Every third is copied, so that pieces of both kinds lie side by side. */
static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)data, (void)len, (void)user;
    for (int i = 0; i < PIECES; i++) {
        size_t length = length_of(i);
        piece *one = malloc(sizeof *one + length);
        CHECK(one != NULL);
        one->number = i;
        pattern_fill(one->bytes, length, total);
        total += length;
        if (i % 3) {
            CHECK_OK(ahoy_send_owned(conn, one->bytes, length, free_piece, one));
        } else {
            CHECK_OK(ahoy_send(conn, one->bytes, length));
            free_piece(one);
        }
    }
    CHECK_OK(ahoy_conn_close(conn)); /* what is queued goes out all the same */
}

static void bites(int32_t driver, bool tcp) {
    static char bite[BITE_BYTES_MAX];
    int pair[2], room = BUFFER_BYTES;
    size_t got = 0, bites = 0;
    seen = (tally)TALLY_INIT;
    total = 0;
    memset(freed, 0, sizeof freed);
    ahoy_server server = start(OPTIONS(.workers = 1, .user = &seen, .driver = driver, .queue_bytes_max = 64 << 20,
                                       .on_message = on_message, .on_close = tally_close));
    if (tcp) {
        int listener = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_storage name;
        socklen_t length = url_parse("tcp://127.0.0.1:0", &name);
        CHECK(!bind(listener, (struct sockaddr *)&name, length) && !listen(listener, 1));
        CHECK(!getsockname(listener, (struct sockaddr *)&name, &length));
        pair[1] = socket(AF_INET, SOCK_STREAM, 0);
        CHECK(!setsockopt(pair[1], SOL_SOCKET, SO_RCVBUF, &room, sizeof room));
        CHECK(!connect(pair[1], (struct sockaddr *)&name, length));
        CHECK((pair[0] = accept(listener, NULL, NULL)) >= 0);
        close(listener);
    } else {
        stream_pair(pair);
    }
    CHECK(!setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room));
    CHECK_OK(ahoy_server_adopt(server, pair[0], NULL));
    send_all(pair[1], "go", 2);
    for (;;) {
        ssize_t count = recv(pair[1], bite, 1 + bites++ * 331 % BITE_BYTES_MAX, 0);
        CHECK(count >= 0);
        if (count == 0) break;
        CHECK(pattern_matches(bite, (size_t)count, got));
        got += (size_t)count;
    }
    close(pair[1]);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    CHECK_EQ(got, total);
    CHECK_EQ(stats_of(server).bytes_out, total);
    ahoy_server_free(server);
    for (int i = 0; i < PIECES; i++) CHECK_EQ(freed[i], 1);
}

int main(void) {
    deadline_seconds(120);
    bites(AHOY_DRIVER_EPOLL, false), bites(AHOY_DRIVER_EPOLL, true);
    need_uring();
    bites(AHOY_DRIVER_URING, false), bites(AHOY_DRIVER_URING, true);
    return 0;
}
