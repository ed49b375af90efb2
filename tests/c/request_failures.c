/*
 * Each way in which a question can go unanswered has its own status, comes within the one deadline, and leaves
 * neither a thread nor a descriptor, nor a byte in the buffer that is not the answer's.
 */
#include "remote.h"

#include <sys/socket.h>
#include <unistd.h>

typedef enum ending { END, RESET, SILENCE, NO_ACCEPT } ending;

/* Somebody who takes one question, says something, and ends. */
typedef struct peer {
    remote remote;
    const char *answer;
    size_t answer_bytes;
    ending ending;
    pthread_t thread;
    int fd;
} peer;

static void *take_one(void *arg) {
    peer *peer = arg;
    char question[64];
    peer->fd = remote_accept(&peer->remote);
    CHECK(recv(peer->fd, question, sizeof question, 0) > 0);
    send_all(peer->fd, peer->answer, peer->answer_bytes);
    if (peer->ending == END) close(peer->fd);
    if (peer->ending == RESET) close_reset(peer->fd);
    return NULL;
}

static void peer_begin(peer *peer, const char *answer, size_t bytes, ending ending) {
    *peer = (struct peer){ .answer = answer, .answer_bytes = bytes, .ending = ending };
    peer->remote = remote_listening();
    if (ending != NO_ACCEPT) CHECK(!pthread_create(&peer->thread, NULL, take_one, peer));
}

static void peer_end(peer *peer) {
    if (peer->ending != NO_ACCEPT) CHECK(!pthread_join(peer->thread, NULL));
    if (peer->ending == SILENCE) close(peer->fd);
    remote_end(&peer->remote);
}

static void fails(const char *urls, ahoy_request_options options, ahoy_status status) {
    char buffer[64] = "untouched";
    size_t received = 77;
    ahoy_status actual = ahoy_request(urls, &options, "?", 1, buffer, sizeof buffer, &received);
    if (actual != status) fprintf(stderr, "%s\n", urls ? urls : "NULL");
    CHECK_STATUS(actual, status);
    CHECK_EQ(received, 77);
    CHECK(strlen(ahoy_last_error()) > 0);
}

/* The answer, as far as it goes, in the framing that the query says. */
static void answers(const char *query, const char *answer, size_t bytes, ending ending, ahoy_status status) {
    peer peer;
    char url[160];
    peer_begin(&peer, answer, bytes, ending);
    snprintf(url, sizeof url, "%s?%s", peer.remote.url, query);
    fails(url, REQUEST_OPTIONS(.timeout_ms = status == AHOY_ERR_TIMEOUT ? 100 : 0), status);
    peer_end(&peer);
}

static void not_answered(void) {
    static const char *const queries[] = { "framing=raw", "framing=lines", "framing=length",
                                           "framing=delimiter&delimiter=END" };
    for (int i = 0; i < 4; i++) {
        answers(queries[i], "", 0, END, AHOY_ERR_EOF);
        answers(queries[i], "", 0, RESET, AHOY_ERR_RESET);
        answers(queries[i], "", 0, SILENCE, AHOY_ERR_TIMEOUT);
        answers(queries[i], "", 0, NO_ACCEPT, AHOY_ERR_TIMEOUT);
        if (i > 0) answers(queries[i], "\0\0\0\6half", 8, END, AHOY_ERR_EOF);
        if (i > 0) answers(queries[i], "\0\0\0\6half", 8, SILENCE, AHOY_ERR_TIMEOUT);
    }
}

/* The rest of an answer that cannot fit is not waited for. */
static void too_long(void) {
    static char much[4096];
    memset(much, 0xff, sizeof much);
    answers("framing=raw", much, 65, SILENCE, AHOY_ERR_TOO_LONG);
    answers("framing=lines", much, sizeof much, SILENCE, AHOY_ERR_TOO_LONG);
    answers("framing=delimiter&delimiter=END", much, sizeof much, SILENCE, AHOY_ERR_TOO_LONG);
    answers("framing=length", much, 4, SILENCE, AHOY_ERR_TOO_LONG);
    answers("framing=length&length_bytes=1", much, 1, SILENCE, AHOY_ERR_TOO_LONG);
}

static void not_reached(void) {
    remote dead = remote_dead(), hole = remote_black_hole();
    char list[256];
    fails(dead.url, REQUEST_OPTIONS(0), AHOY_ERR_REFUSED);
    fails("tcp://nobody.invalid:80", REQUEST_OPTIONS(0), AHOY_ERR_NAME);
    fails("unix:@nobody-listens-here", REQUEST_OPTIONS(0), AHOY_ERR_REFUSED);
    fails("unix:/nowhere/at/all", REQUEST_OPTIONS(0), AHOY_ERR_NOT_FOUND);
    snprintf(list, sizeof list, "%s,tcp://nobody.invalid:80", dead.url);
    fails(list, REQUEST_OPTIONS(0), AHOY_ERR_NAME);
    snprintf(list, sizeof list, "tcp://nobody.invalid:80,%s", dead.url);
    fails(list, REQUEST_OPTIONS(0), AHOY_ERR_REFUSED);
    long begin = now_ms();
    fails(hole.url, REQUEST_OPTIONS(.timeout_ms = 200), AHOY_ERR_TIMEOUT);
    snprintf(list, sizeof list, "%s,%s", hole.url, hole.url);
    fails(list, REQUEST_OPTIONS(.timeout_ms = 200), AHOY_ERR_TIMEOUT);
    long spent = now_ms() - begin;
    CHECK(spent >= 2 * 200 - 20);
    if (!is_slow()) CHECK(spent < 2000);
    remote_end(&dead), remote_end(&hole);
}

static void bad_arguments(void) {
    char long_path[300] = "unix:/", buffer[8];
    memset(long_path + 6, 'a', sizeof long_path - 7);
    long_path[sizeof long_path - 1] = '\0';
    fails(NULL, REQUEST_OPTIONS(0), AHOY_ERR_NULL);
    fails("", REQUEST_OPTIONS(0), AHOY_ERR_URL);
    fails("nonsense", REQUEST_OPTIONS(0), AHOY_ERR_URL);
    fails("fd:3", REQUEST_OPTIONS(0), AHOY_ERR_URL);
    fails("tcp://127.0.0.1:1,nonsense", REQUEST_OPTIONS(0), AHOY_ERR_URL);
    fails("tcp://127.0.0.1:65536", REQUEST_OPTIONS(0), AHOY_ERR_PORT);
    fails(long_path, REQUEST_OPTIONS(0), AHOY_ERR_PATH_TOO_LONG);
    fails("tcp://127.0.0.1:1", REQUEST_OPTIONS(.framing = 99), AHOY_ERR_ENUM);
    fails("tcp://127.0.0.1:1", REQUEST_OPTIONS(.framing = AHOY_FRAMING_DELIMITER), AHOY_ERR_NULL);
    fails("tcp://127.0.0.1:1", (ahoy_request_options){ .size = 1 }, AHOY_ERR_SIZE);
    fails("tcp://127.0.0.1:1", (ahoy_request_options){ .size = 0 }, AHOY_ERR_SIZE);
    CHECK_STATUS(ahoy_request("tcp://127.0.0.1:1", NULL, NULL, 1, buffer, 8, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_request("tcp://127.0.0.1:1", NULL, "?", 1, NULL, 8, NULL), AHOY_ERR_NULL);
    /* The framing cannot hold it. */
    static char long_question[300];
    CHECK_STATUS(ahoy_request("tcp://127.0.0.1:1?framing=length&length_bytes=1", NULL, long_question,
                              sizeof long_question, buffer, 8, NULL), AHOY_ERR_TOO_LONG);
}

static latch asked = LATCH_INIT;

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    char answer[8];
    size_t received = 77;
    CHECK_STATUS(ahoy_request(user, NULL, data, len, answer, sizeof answer, &received), AHOY_ERR_DEADLOCK);
    CHECK_EQ(received, 77);
    CHECK_OK(ahoy_conn_close(conn));
    latch_add(&asked, 1);
}

/* It would wait for the very worker that it runs on. */
static void inside_a_callback(void) {
    char url[128], byte;
    ahoy_server far = start(OPTIONS(.listen = LOOPBACK, .workers = 1));
    CHECK_OK(ahoy_server_address(far, 0, url, sizeof url));
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .on_message = on_message, .user = url));
    int fd = dial(server);
    send_all(fd, "x", 1);
    latch_wait(&asked, 1);
    CHECK_EQ(recv_until_eof(fd, &byte, 1), 0);
    close(fd);
    ahoy_server_free(server);
    CHECK_EQ(stats_of(far).opened, 0);
    ahoy_server_free(far);
}

int main(void) {
    holdings before = holdings_now();
    not_reached();
    not_answered();
    too_long();
    bad_arguments();
    inside_a_callback();
    CHECK_HOLDINGS(before);
    return 0;
}
