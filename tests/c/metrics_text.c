/*
 * ahoy_metrics_text writes what Prometheus reads, line by line: every family with its kind, every value that
 * ahoy_server_stats tells, a histogram whose buckets add up. Also after a stop, and while all workers are busy.
 */
#include "support.h"

#include <ctype.h>
#include <unistd.h>

enum { TEXT_BYTES = 16384, CONNS = 5, MESSAGES = 7 };

static tally seen = TALLY_INIT;
static char text[TEXT_BYTES];

/* The value of a sample, by its name and labels as they are written; -1: there is none. */
static double value_of(const char *sample) {
    size_t len = strlen(sample);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, sample, len) == 0 && line[len] == ' ') return atof(line + len);
    }
    return -1;
}

#define CHECK_VALUE(sample, expected) CHECK_EQ(value_of(sample), expected)

static void read_metrics(ahoy_server server) {
    size_t length = 0;
    CHECK_OK(ahoy_metrics_text(server, text, sizeof text, &length));
    CHECK_EQ(length, strlen(text));
    CHECK(length > 0 && text[length - 1] == '\n');
}

static bool is_name(const char *begin, const char *end) {
    if (begin == end || isdigit((unsigned char)*begin)) return false;
    for (; begin < end; begin++) {
        if (!isalnum((unsigned char)*begin) && *begin != '_') return false;
    }
    return true;
}

/* Each sample belongs to the family named just above it. (A histogram's have suffixes.) */
static void check_grammar(void) {
    char family[128] = "", kind[16] = "", copy[TEXT_BYTES];
    int families = 0, samples = 0;
    strcpy(copy, text);
    for (char *rest = copy, *line; (line = strsep(&rest, "\n")) && (rest || *line);) {
        char name[128], help[16];
        int used = 0;
        if (sscanf(line, "# HELP %127s %15s", name, help) == 2) {
            CHECK(!strcmp(family, "") || strcmp(name, family) != 0);
            CHECK(strncmp(name, "ahoy_", 5) == 0 && is_name(name, name + strlen(name)));
            char again[140];
            snprintf(again, sizeof again, "# TYPE %s ", name);
            CHECK(strstr(text, again) != NULL && strstr(strstr(text, again) + 1, again) == NULL);
            strcpy(family, name);
            families++;
        } else if (sscanf(line, "# TYPE %127s %15s", name, kind) == 2) {
            CHECK_TEXT(name, family);
            CHECK(!strcmp(kind, "counter") || !strcmp(kind, "gauge") || !strcmp(kind, "histogram"));
            size_t len = strlen(name);
            CHECK_EQ(!strcmp(kind, "counter"), len > 6 && !strcmp(name + len - 6, "_total"));
        } else {
            char *end = line + strcspn(line, "{ "), *number;
            CHECK(is_name(line, end) && strncmp(line, family, strlen(family)) == 0);
            if (*end == '{') {
                char label[64], value[64];
                CHECK(sscanf(end, "{%63[a-z_]=\"%63[^\"]\"%n", label, value, &used) == 2 && used > 0);
                end = strchr(end, '}');
                CHECK(end++ != NULL);
            }
            CHECK(*end == ' ');
            CHECK(strtod(end + 1, &number) >= 0 && *number == '\0' && number > end + 1);
            samples++;
        }
    }
    CHECK(families > 20 && samples > families);
}

static void check_agreement(ahoy_server server) {
    ahoy_stats stats = stats_of(server);
    CHECK_VALUE("ahoy_workers", stats.workers);
    CHECK_VALUE("ahoy_connections{state=\"connecting\"}", stats.connecting);
    CHECK_VALUE("ahoy_connections_opened_total", stats.opened);
    CHECK_VALUE("ahoy_connections_refused_total", stats.refused);
    CHECK_VALUE("ahoy_connects_failed_total", stats.connects_failed);
    CHECK_VALUE("ahoy_received_messages_total", stats.messages_in);
    CHECK_VALUE("ahoy_received_bytes_total", stats.bytes_in);
    CHECK_VALUE("ahoy_sent_messages_total", stats.messages_out);
    CHECK_VALUE("ahoy_sent_bytes_total", stats.bytes_out);
    CHECK_VALUE("ahoy_published_messages_total", stats.published);
    CHECK_VALUE("ahoy_queued_bytes", stats.bytes_queued);
    CHECK_VALUE("ahoy_partial_bytes", stats.bytes_partial);
    CHECK_VALUE("ahoy_timers", stats.timers);
    CHECK_VALUE("ahoy_panics_total", 0);
    double closed = 0;
    for (const char *at = text; (at = strstr(at, "\nahoy_connections_closed_total{")); at++) {
        closed += atof(strchr(at + 1, ' '));
    }
    CHECK_EQ(closed, stats.closed);
}

/* Cumulative: each bucket has at least what the one before has, and the last has all. */
static void check_histogram(void) {
    double before = 0, last = -1;
    for (const char *at = text; (at = strstr(at, "\nahoy_turn_seconds_bucket{le=\"")); at++) {
        double count = atof(strchr(at + 1, ' '));
        CHECK(count >= before);
        before = count;
        if (strncmp(strchr(at, '"'), "\"+Inf\"", 6) == 0) last = count;
    }
    CHECK(last > 0);
    CHECK_VALUE("ahoy_turn_seconds_count", last);
    CHECK(value_of("ahoy_turn_seconds_sum") > 0);
}

static void lengths(ahoy_server server) {
    size_t length = 77, asked = 0;
    CHECK_STATUS(ahoy_metrics_text(server, NULL, 0, &asked), AHOY_ERR_TOO_LONG); /* to ask how long it is */
    CHECK(asked > 1000 && asked < TEXT_BYTES);
    CHECK_STATUS(ahoy_metrics_text(server, NULL, 0, NULL), AHOY_ERR_TOO_LONG);
    CHECK_STATUS(ahoy_metrics_text(server, NULL, TEXT_BYTES, &length), AHOY_ERR_NULL);
    char small[100] = "untouched";
    CHECK_STATUS(ahoy_metrics_text(server, small, sizeof small, &length), AHOY_ERR_TOO_LONG);
    CHECK(length > sizeof small);
    CHECK_TEXT(small, "untouched");
    CHECK_OK(ahoy_metrics_text(server, text, sizeof text, NULL));

    /* To the byte: it fits with its zero byte, and not without. */
    CHECK_OK(ahoy_server_stop(server, 0));
    CHECK_OK(ahoy_server_wait(server)); /* from here on it does not change */
    read_metrics(server);
    size_t exact = strlen(text);
    CHECK_STATUS(ahoy_metrics_text(server, text, exact, &length), AHOY_ERR_TOO_LONG);
    CHECK_EQ(length, exact);
    memset(text, 'z', sizeof text);
    CHECK_OK(ahoy_metrics_text(server, text, exact + 1, &length));
    CHECK_EQ(strlen(text), exact);
    CHECK_EQ(text[exact + 1], 'z');
    check_grammar();
    check_agreement(server);
    CHECK_VALUE("ahoy_connections{state=\"open\"}", 0);
    CHECK_VALUE("ahoy_connections_closed_total{reason=\"eof\"}", 1);
    CHECK_VALUE("ahoy_connections_closed_total{reason=\"stopped\"}", CONNS - 1);
}

/* ---- Under load ------------------------------------------------------------------------------ */

static atomic_bool done;

static void *watch(void *server) {
    static _Thread_local char own[TEXT_BYTES];
    double before = 0;
    while (!done) {
        CHECK_OK(ahoy_metrics_text(*(ahoy_server *)server, own, sizeof own, NULL));
        double messages = atof(strstr(own, "\nahoy_received_messages_total ") + 30);
        CHECK(messages >= before); /* a counter never falls */
        before = messages;
    }
    return NULL;
}

static void under_load(void) {
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    seen = (tally)TALLY_INIT;
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .on_message = tally_echo));
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, watch, &server));
    for (long i = 0; i < rounds(300); i++) {
        char byte = 'x';
        int fd = dial(server);
        for (int j = 0; j < 5; j++) send_all(fd, &byte, 1), recv_exact(fd, &byte, 1);
        close(fd);
    }
    done = true;
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], NULL));
    ahoy_server_free(server);
}

int main(void) {
    int fds[CONNS];
    char echo[4];
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .user = &seen, .on_open = tally_open,
                                       .on_message = tally_echo, .on_close = tally_close,
                                       .connections_max = 100));
    for (int i = 0; i < CONNS; i++) {
        fds[i] = dial(server);
        for (int j = 0; j < MESSAGES; j++) send_all(fds[i], "ahoy", 4), recv_exact(fds[i], echo, 4);
    }
    CHECK_OK(ahoy_publish(server, "news", "x", 1));
    close(fds[0]);
    latch_wait(&seen.closed, 1);
    WAIT_UNTIL(stats_of(server).closed == 1);
    /* A peer may have heard an answer before the worker has heard that it was sent. */
    WAIT_UNTIL(stats_of(server).bytes_out >= CONNS * MESSAGES * 4);
    read_metrics(server);
    check_grammar();
    check_agreement(server);
    check_histogram();
    CHECK_VALUE("ahoy_connections{state=\"open\"}", CONNS - 1);
    CHECK_VALUE("ahoy_connections_limit", 100);
    CHECK_VALUE("ahoy_received_messages_total", CONNS * MESSAGES);
    CHECK_VALUE("ahoy_sent_bytes_total", CONNS * MESSAGES * 4);
    CHECK_VALUE("ahoy_published_messages_total", 1);
    CHECK(strstr(text, "driver=\"") != NULL);
    CHECK(strstr(text, "version=\"" AHOY_VERSION "\"") != NULL);
    lengths(server);
    for (int i = 1; i < CONNS; i++) close(fds[i]);
    ahoy_server_free(server);
    CHECK_STATUS(ahoy_metrics_text(server, text, sizeof text, NULL), AHOY_ERR_STALE);
    under_load();
    return 0;
}
