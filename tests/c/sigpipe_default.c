/*
 * The host leaves SIGPIPE at its default, which kills. Writing to peers that are gone never raises it: not
 * from a worker, not from the program's own loop, not in the blocking greetings.
 */
#include "support.h"

#include <signal.h>
#include <unistd.h>

/* The peer ends, and then is sent to until the send answers that it is gone. */
static void sends(int32_t workers, bool owned) {
    static const char block[4096] = { 0 };
    tally seen = TALLY_INIT;
    /* With on_end the server keeps the connection when the peer ends: the writes hit a dead socket. */
    ahoy_server server = start(OPTIONS(.workers = workers, .on_open = tally_open, .user = &seen,
                                       .on_message = tally_message, .on_end = tally_end,
                                       .on_close = tally_close));
    for (int round = 0; round < 20; round++) {
        int pair[2];
        ahoy_conn conn;
        ahoy_status status = AHOY_OK;
        stream_pair(pair);
        CHECK_OK(ahoy_server_adopt(server, pair[0], &conn));
        close(pair[1]);
        while (status == AHOY_OK || status == AHOY_ERR_AGAIN) {
            status = owned ? ahoy_send_owned(conn, block, sizeof block, NULL, NULL)
                           : ahoy_send(conn, block, sizeof block);
            if (workers == AHOY_WORKERS_NONE) CHECK_OK(ahoy_server_turn(server, 0));
        }
        CHECK(status == AHOY_ERR_CLOSED || status == AHOY_ERR_STALE);
        if (workers == AHOY_WORKERS_NONE) {
            while (latch_count(&seen.closed) <= round) CHECK_OK(ahoy_server_turn(server, -1));
        }
        latch_wait(&seen.closed, round + 1);
        CHECK_STATUS(seen.reason, AHOY_ERR_RESET);
    }
    ahoy_server_free(server);
}

static void greets_fd(void) {
    int pair[2];
    stream_pair(pair);
    close(pair[1]);
    CHECK_STATUS(ahoy_greet_fd(pair[0], NULL, NULL, 0, NULL), AHOY_ERR_RESET);
    close(pair[0]);
}

static void *leave_at_once(void *url) {
    int fd;
    while ((fd = try_dial_url(url)) < 0) wait_moment();
    close(fd);
    return NULL;
}

static void greets_once(void) {
    const char *url = abstract_url();
    pthread_t client;
    CHECK(!pthread_create(&client, NULL, leave_at_once, (void *)url));
    CHECK_STATUS(ahoy_greet_once(url, NULL, NULL, 0, NULL), AHOY_ERR_RESET);
    CHECK(!pthread_join(client, NULL));
}

int main(void) {
    struct sigaction action;
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    sends(1, false);
    sends(2, true);
    sends(AHOY_WORKERS_NONE, false);
    greets_fd();
    greets_once();
    return 0;
}
