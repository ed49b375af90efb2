/*
 * A peer that does not read: sends answer AHOY_ERR_AGAIN at `queue_bytes_max`, nothing grows beyond it,
 * and on_writable comes once for each such time when the peer has read. All that was accepted
 * arrives, whole and in order.
 */
#include "support.h"

#include <unistd.h>

enum { QUEUE_BYTES = 256 * 1024, PIECE_BYTES = 10000, TOTAL_BYTES = 800 * PIECE_BYTES };

static struct {
    tally seen;
    latch refusals; /* times that the queue was full */
    size_t sent;
} flow = { .seen = TALLY_INIT, .refusals = LATCH_INIT };

/* Sends until the queue is full or all is sent. */
static void fill(ahoy_conn conn) {
    char piece[PIECE_BYTES];
    while (flow.sent < TOTAL_BYTES) {
        pattern_fill(piece, sizeof piece, flow.sent);
        ahoy_status status = ahoy_send(conn, piece, sizeof piece);
        if (status == AHOY_OK) {
            flow.sent += sizeof piece;
            continue;
        }
        /* Refused once or several times before there is room: one on_writable all the same. */
        CHECK_STATUS(status, AHOY_ERR_AGAIN);
        CHECK_STATUS(ahoy_send(conn, piece, sizeof piece), AHOY_ERR_AGAIN);
        uint64_t queued = stats_of(ahoy_conn_server(conn)).bytes_queued;
        CHECK(queued <= QUEUE_BYTES && queued > QUEUE_BYTES - PIECE_BYTES);
        latch_add(&flow.refusals, 1);
        return;
    }
}

static void on_message(ahoy_conn conn, const void *data, size_t len, void *user) {
    tally_message(conn, data, len, user);
    fill(conn);
}

static void on_writable(ahoy_conn conn, void *user) {
    uint64_t queued = stats_of(ahoy_conn_server(conn)).bytes_queued;
    CHECK(queued <= QUEUE_BYTES / 2);
    fill(conn);
    tally_writable(conn, user);
}

static void read_total(int fd) {
    static char data[TOTAL_BYTES];
    memset(data, 0, sizeof data);
    recv_exact(fd, data, sizeof data);
    CHECK(pattern_matches(data, sizeof data, 0));
}

static ahoy_server begin(ahoy_message_fn on_message, ahoy_writable_fn on_writable) {
    flow.seen = (tally)TALLY_INIT;
    flow.refusals = (latch)LATCH_INIT;
    flow.sent = 0;
    return start(OPTIONS(.listen = abstract_url(), .workers = 1, .user = &flow.seen,
                         .queue_bytes_max = QUEUE_BYTES, .on_open = tally_open,
                         .on_message = on_message, .on_writable = on_writable,
                         .on_close = tally_close));
}

static void sent_inside_callbacks(void) {
    ahoy_server server = begin(on_message, on_writable);
    int fd = dial(server);
    send_all(fd, "go", 2);
    latch_wait(&flow.refusals, 1);

    /* The peer does not read: the system's buffers fill, then the queue stays over its half. */
    ahoy_stats stats;
    do {
        wait_moment();
        stats = stats_of(server);
        CHECK(stats.bytes_queued <= QUEUE_BYTES);
    } while (stats.bytes_queued <= QUEUE_BYTES / 2);
    CHECK(stats.bytes_out < TOTAL_BYTES / 2);

    read_total(fd);
    /* The last bytes can arrive before the call for them has returned. */
    WAIT_UNTIL(latch_count(&flow.seen.writable) == latch_count(&flow.refusals));
    CHECK_EQ(flow.sent, TOTAL_BYTES);
    close(fd);
    latch_wait(&flow.seen.closed, 1);
    CHECK_EQ(latch_count(&flow.seen.writable), latch_count(&flow.refusals));
    ahoy_server_free(server);
}

static void *read_later(void *fd) {
    latch_wait(&flow.refusals, 1);
    read_total(*(int *)fd);
    return NULL;
}

static void sent_from_another_thread(void) {
    ahoy_server server = begin(tally_message, tally_writable);
    int fd = dial(server);
    char piece[PIECE_BYTES];
    pthread_t reader;
    CHECK(!pthread_create(&reader, NULL, read_later, &fd));
    latch_wait(&flow.seen.opened, 1);

    /* The room may come back between a refusal and its on_writable: that must not be missed. */
    for (size_t sent = 0; sent < TOTAL_BYTES;) {
        pattern_fill(piece, sizeof piece, sent);
        ahoy_status status = ahoy_send(tally_conn(&flow.seen), piece, sizeof piece);
        if (status == AHOY_OK) {
            sent += sizeof piece;
        } else {
            CHECK_STATUS(status, AHOY_ERR_AGAIN);
            CHECK(stats_of(server).bytes_queued <= QUEUE_BYTES);
            latch_add(&flow.refusals, 1);
            latch_wait(&flow.seen.writable, 1);
            latch_add(&flow.seen.writable, -1);
        }
    }
    CHECK(!pthread_join(reader, NULL));
    close(fd);
    latch_wait(&flow.seen.closed, 1);
    CHECK_EQ(latch_count(&flow.seen.writable), 0); /* never twice for one refusal */
    ahoy_server_free(server);
}

int main(void) {
    sent_inside_callbacks();
    sent_from_another_thread();
    return 0;
}
