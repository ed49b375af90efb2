/*
 * A long answer to whom the program is just told of leaves at once, as far as the system takes it. It arrives whole and in order,
 * whatever came before and comes after it: when the system takes little of it or nothing, when the callback closes its own
 * connection, and while another thread sends, too. Where there is no memory for it, nothing of it leaves. It never goes to
 * another socket than the connection's.
 */
#include "hooks.h"
#include "remote.h"
#include "wire.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LONG = 20 << 10, SHORT = 100, HUGE = 4 << 20, ROUNDS = 20, PARTS = 3, LENGTHS = 4 /* in `wires` */ };

static tally seen;
static char answer[HUGE];
static size_t queued; /* after the answer, inside the callback */
static int32_t on_driver;
static long asked;

static size_t say(ahoy_conn conn, size_t len) {
    CHECK_OK(ahoy_send(conn, answer, len));
    return len;
}

/* What the peer says is what it wants. */
static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    const ahoy_part parts[PARTS] = { { answer, LONG / 2 }, { NULL, 0 }, { answer + LONG / 2, LONG - LONG / 2 } };
    switch (*(const char *)data) {
    case 'l': say(conn, LONG); break;
    case 'h': say(conn, HUGE); break;
    case 'p': CHECK_OK(ahoy_send_parts(conn, parts, PARTS)); break;
    case 'm': say(conn, SHORT), say(conn, LONG), say(conn, SHORT), say(conn, LONG), say(conn, LONG); break;
    case 'c': say(conn, LONG), CHECK_OK(ahoy_conn_close(conn)); break;
    case 'n':
        CHECK_STATUS(ahoy_send(conn, answer, HUGE), AHOY_ERR_MEMORY);
        ahoy_test_fail("memory", 0, 0, 0);
        say(conn, SHORT);
        break;
    }
    queued = ahoy_conn_queued(conn);
    tally_message(conn, data, len, user);
}

static ahoy_server begin(const wire *wire) {
    ahoy_framing_options particulars;
    ahoy_server_options options =
        OPTIONS(.workers = 1, .user = &seen, .driver = on_driver, .queue_bytes_max = 4 * HUGE, .message_bytes_max = HUGE,
                .on_open = tally_open, .on_message = on_message, .on_close = tally_close);
    wire_options(wire, &options, &particulars);
    seen = (tally)TALLY_INIT;
    return start(options);
}

/* With little room in the system, or as much as there is by itself. */
static int join(ahoy_server server, int room) {
    int pair[2];
    ahoy_conn conn;
    stream_pair(pair);
    if (room) CHECK(!setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room));
    CHECK_OK(ahoy_server_adopt(server, pair[0], &conn));
    return pair[1];
}

static void ask(const wire *wire, int fd, const char *what) {
    long before = latch_count(&seen.messages);
    wire_send(wire, fd, what, 1);
    latch_wait(&seen.messages, before + 1);
}

/* After a miss some are gathered. On and on with them, until one is sent at once. */
static void until_at_once(const wire *wire, int fd) {
    do {
        ask(wire, fd, "l");
        wire_expect(wire, fd, answer, LONG);
        asked++;
    } while (queued > 0);
}

static void arrives(const wire *wire) {
    if (wire->message_max < HUGE) return; /* its frames hold no long answer */
    asked = 0;
    ahoy_server server = begin(wire);
    int fd = join(server, 0);
    for (int round = 0; round < ROUNDS; round++) {
        ask(wire, fd, "l");
        CHECK_EQ(queued, 0); /* it has left */
        wire_expect(wire, fd, answer, LONG);
        ask(wire, fd, "p");
        CHECK_EQ(queued, 0);
        wire_expect(wire, fd, answer, LONG);
    }
    ask(wire, fd, "m");
    for (int i = 0; i < 5; i++) wire_expect(wire, fd, answer, i % 2 || i == 4 ? LONG : SHORT);

    until_at_once(wire, fd);

    /* Little is taken at once, the rest bit by bit. */
    int slow = join(server, 4096);
    ask(wire, slow, "h");
    CHECK(queued > 0 && queued < HUGE);
    ask(wire, slow, "m");
    wire_expect(wire, slow, answer, HUGE);
    for (int i = 0; i < 5; i++) wire_expect(wire, slow, answer, i % 2 || i == 4 ? LONG : SHORT);

    /* Nothing is taken, or the call is interrupted: nobody notices. */
    const int errors[] = { EAGAIN, EINTR, ENOBUFS };
    for (int i = 0; i < 3; i++) {
        until_at_once(wire, fd);
        ahoy_test_fail("sendmsg", errors[i], 0, 1);
        ask(wire, slow, "l");
        CHECK(errors[i] == EINTR || queued > 0);
        ahoy_test_fail("sendmsg", 0, 0, 0);
        wire_expect(wire, slow, answer, LONG);
    }

    /* Without memory nothing leaves, not even a beginning. */
    int fresh = join(server, 0);
    latch_wait(&seen.opened, 3);
    until_at_once(wire, fd);
    ahoy_test_fail("memory", 0, 0, -1);
    ask(wire, fresh, "n");
    wire_expect(wire, fresh, answer, SHORT);

    /* All of it arrives before the end. */
    ask(wire, fd, "c");
    wire_expect(wire, fd, answer, LONG);
    CHECK_EQ(recv_until_eof(fd, answer + LONG, 1), 0);
    latch_wait(&seen.closed, 1);
    CHECK_STATUS(seen.reason, AHOY_OK);
    CHECK_EQ(stats_of(server).bytes_queued, 0);
    CHECK_EQ(stats_of(server).bytes_cut, 0);
    CHECK_EQ(stats_of(server).messages_out, 2 * ROUNDS + 5 + 3 + 1 + 1 + asked + 6);
    close(fd), close(slow), close(fresh);
    ahoy_server_free(server);
}

/* A peer that has gone, while the answer is made: the connection is over, once. */
static void fails(void) {
    ahoy_server server = begin(&wire_raw);
    int fd = join(server, 0);
    until_at_once(&wire_raw, fd);
    ahoy_test_fail("sendmsg", ECONNRESET, 0, 2); /* at once, and when what is queued is sent */
    ask(&wire_raw, fd, "l");
    latch_wait(&seen.closed, 1);
    ahoy_test_fail("sendmsg", 0, 0, 0);
    CHECK_STATUS(seen.reason, AHOY_ERR_RESET);
    close(fd);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&seen.closed), 1);
}

/* Where answers come in several parts they are gathered again: one call takes them all. */
static void several(void) {
    ahoy_server server = begin(&wire_raw);
    int fd = join(server, 0);
    size_t all = 2 * SHORT + 3 * LONG;
    char *got = malloc(all);
    ask(&wire_raw, fd, "l");
    wire_expect(&wire_raw, fd, answer, LONG);
    ask(&wire_raw, fd, "m");
    recv_exact(fd, got, all);
    free(got);
    CHECK_EQ(queued, all); /* the short one came first, and the others behind it */
    close(fd);
    ahoy_server_free(server);
}

enum { WORDS = 2000, ANSWERS = 200 };

/* Words of another thread's, numbered. */
static void *speak(void *user) {
    ahoy_conn conn = *(ahoy_conn *)user;
    for (uint32_t word = 0; word < WORDS; word++) {
        ahoy_status status;
        while ((status = ahoy_send(conn, &word, sizeof word)) == AHOY_ERR_AGAIN) wait_moment();
        CHECK_OK(status);
    }
    return NULL;
}

static void *want(void *user) {
    for (int i = 0; i < ANSWERS; i++) wire_send(&wires[LENGTHS], *(int *)user, "l", 1);
    return NULL;
}

/* Each thread's messages come in its own order, and none inside of another. */
static void between_threads(void) {
    static char got[LONG];
    pthread_t speaker, asker;
    ahoy_server server = begin(&wires[LENGTHS]);
    int fd = join(server, 0);
    latch_wait(&seen.opened, 1);
    ahoy_conn conn = tally_conn(&seen);
    CHECK(!pthread_create(&speaker, NULL, speak, &conn));
    CHECK(!pthread_create(&asker, NULL, want, &fd));
    uint32_t words = 0, answers = 0;
    while (words < WORDS || answers < ANSWERS) {
        unsigned char head[4];
        recv_exact(fd, head, sizeof head);
        size_t len = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];
        CHECK(len == sizeof words || len == LONG);
        recv_exact(fd, got, len);
        if (len == LONG) answers++, CHECK(!memcmp(got, answer, LONG));
        else CHECK(!memcmp(got, &words, sizeof words)), words++;
    }
    CHECK(!pthread_join(speaker, NULL) && !pthread_join(asker, NULL));
    CHECK_EQ(words, WORDS);
    CHECK_EQ(answers, ANSWERS);
    close(fd);
    ahoy_server_free(server);
}

/* ---- Another socket -------------------------------------------------------------------------- */

enum { DECOYS = 8 };

static int decoys[DECOYS][2];
static latch down;

static void on_again(ahoy_conn conn, void *user) {
    if (latch_count(&down)) say(conn, LONG);
    tally_open(conn, user);
}

/* Somebody else gets the descriptor that was the connection's. */
static void on_down(ahoy_conn conn, ahoy_status reason, void *user) {
    (void)conn, (void)reason, (void)user;
    for (int i = 0; latch_count(&down) == 0 && i < DECOYS; i++) stream_pair(decoys[i]);
    latch_add(&down, 1);
}

static void another_socket(void) {
    char byte;
    remote far = remote_listening();
    seen = (tally)TALLY_INIT, down = (latch)LATCH_INIT;
    ahoy_server server = start(OPTIONS(.workers = 1, .driver = on_driver, .on_open = on_again, .on_message = on_message,
                                       .on_close = tally_close));
    outgoing(server, far.url, CONNECT_OPTIONS(.user = &seen, .on_down = on_down, .reconnect = 1, .reconnect_min_ms = 1));
    int fd = remote_accept(&far);
    ask(&wire_raw, fd, "l");
    wire_expect(&wire_raw, fd, answer, LONG);
    until_at_once(&wire_raw, fd);
    ask(&wire_raw, fd, "?"); /* this one is not answered */
    close(fd);
    fd = remote_accept(&far);
    latch_wait(&seen.opened, 2);
    wire_expect(&wire_raw, fd, answer, LONG);
    ahoy_server_free(server);
    close(fd);
    for (int i = 0; i < DECOYS; i++) {
        for (int end = 0; end < 2; end++) CHECK_EQ(recv(decoys[i][end], &byte, 1, MSG_DONTWAIT), -1);
        close(decoys[i][0]), close(decoys[i][1]);
    }
    remote_end(&far);
}

static void everything(int32_t driver) {
    on_driver = driver;
    arrives(&wire_raw);
    for (int i = 0; i < WIRES; i++) arrives(&wires[i]);
    fails();
    several();
    between_threads();
    another_socket();
}

int main(void) {
    letters_fill(answer, sizeof answer, 0);
    everything(AHOY_DRIVER_EPOLL);
    need_uring();
    everything(AHOY_DRIVER_URING);
    return 0;
}
