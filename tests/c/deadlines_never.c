/*
 * AHOY_MS_NEVER is no deadline at all, and not one that has passed already: connections that are silent, that are
 * in the middle of a message, or that take nothing outlive a server whose deadlines are short. So do the longest
 * deadlines that can be said.
 */
#include "support.h"

#include <unistd.h>

enum { ANSWER_BYTES = 1 << 20 };

static ahoy_server begin(const char *listen, uint32_t ms, tally *seen) {
    return start(OPTIONS(.listen = listen, .workers = 1, .user = seen, .framing = AHOY_FRAMING_LENGTH,
                         .queue_bytes_max = ANSWER_BYTES + 4, .idle_ms = ms, .message_ms = ms, .write_ms = ms,
                         .datagram_idle_ms = ms, .on_open = tally_open, .on_message = tally_message,
                         .on_close = tally_close));
}

/* One that is silent, one in the middle of a message, one that takes nothing. */
static void dial_three(ahoy_server server, tally *seen, int fds[3]) {
    static char answer[ANSWER_BYTES];
    for (int i = 0; i < 3; i++) {
        fds[i] = dial(server);
        latch_wait(&seen->opened, i + 1);
    }
    CHECK_OK(ahoy_send(tally_conn(seen), answer, sizeof answer));
    send_all(fds[1], "\0\0\0\5ab", 6);
}

int main(void) {
    static const uint32_t lengths[] = { AHOY_MS_NEVER, AHOY_MS_NEVER - 1, INT32_MAX };
    enum { LENGTHS = sizeof lengths / sizeof lengths[0] };
    static tally patient[LENGTHS], hasty = TALLY_INIT;
    ahoy_server servers[LENGTHS];
    int fds[LENGTHS][3], hasty_fds[3];
    for (int i = 0; i < LENGTHS; i++) {
        patient[i] = (tally)TALLY_INIT;
        servers[i] = begin(abstract_url(), lengths[i], &patient[i]);
        dial_three(servers[i], &patient[i], fds[i]);
    }
    ahoy_server witness = begin(abstract_url(), 100, &hasty);
    dial_three(witness, &hasty, hasty_fds);
    latch_wait(&hasty.closed, 3);
    CHECK_EQ(hasty.reasons[-AHOY_ERR_TIMEOUT], 3);

    for (int i = 0; i < LENGTHS; i++) {
        CHECK_EQ(latch_count(&patient[i].closed), 0);
        send_all(fds[i][1], "cde", 3);
        send_all(fds[i][0], "\0\0\0\1x", 5);
        latch_wait(&patient[i].messages, 2);
        CHECK_EQ(latch_count(&patient[i].bytes), 6);
        for (int j = 0; j < 3; j++) close(fds[i][j]);
        ahoy_server_free(servers[i]);
    }
    for (int j = 0; j < 3; j++) close(hasty_fds[j]);
    ahoy_server_free(witness);
    return 0;
}
