/*
 * ahoy_request asks one question and gets one answer, in each framing, over each kind of socket; and nothing of it is
 * left.
 */
#include "remote.h"
#include "wire.h"

enum { LARGE = 300000 };

static char large[LARGE], buffer[LARGE + 1];

static void echo(ahoy_conn conn, const void *data, size_t len, void *user) {
    (void)user;
    CHECK_OK(ahoy_send(conn, data, len));
}

static void asks(const char *url, const ahoy_request_options *options, const void *question, size_t len) {
    size_t received = SIZE_MAX;
    memset(buffer, 'z', sizeof buffer);
    CHECK_OK(ahoy_request(url, options, question, len, buffer, sizeof buffer, &received));
    CHECK_EQ(received, len);
    CHECK(len == 0 || memcmp(buffer, question, len) == 0);
    CHECK_EQ(buffer[len], '\0');
}

/* Each framing, said by the URL and by the options. The answer may come in many pieces. */
static void in_each_framing(void) {
    for (int i = 0; i < WIRES; i++) {
        const wire *wire = &wires[i];
        ahoy_framing_options particulars;
        ahoy_server_options options = OPTIONS(.listen = LOOPBACK, .workers = 1, .on_message = echo);
        wire_options(wire, &options, &particulars);
        ahoy_server server = start(options);
        char plain[128], url[256];
        CHECK_OK(ahoy_server_address(server, 0, plain, sizeof plain));
        if (strchr(plain, '?')) *strchr(plain, '?') = '\0';
        snprintf(url, sizeof url, "%s?%s", plain, wire->query);
        ahoy_request_options request = REQUEST_OPTIONS(.framing = wire->framing, .framing_options = &particulars);
        size_t most = LARGE < wire->message_max ? LARGE : wire->message_max;
        const size_t lengths[] = { 5, 0, 1, most };
        for (size_t j = 0; j < sizeof lengths / sizeof lengths[0]; j++) {
            asks(url, NULL, large, lengths[j]);
            asks(plain, &request, large, lengths[j]);
        }
        /* The URL decides. */
        request = REQUEST_OPTIONS(.framing = wires[(i + 1) % WIRES].framing, .framing_options = &particulars);
        if (request.framing != AHOY_FRAMING_DELIMITER) asks(url, &request, large, 10);
        asks(url, NULL, NULL, 0);
        ahoy_server_free(server);
    }
}

static void over(const char *listen) {
    char url[160];
    ahoy_server server = start(OPTIONS(.listen = listen, .workers = 1, .on_message = echo));
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    for (int i = 0; i < 20; i++) asks(url, NULL, large, 100);
    ahoy_server_free(server);
}

/* The tutorial's server is asked as the tutorial's client does it. */
static void the_greeting(const char *listen) {
    char url[160], answer[18];
    size_t received;
    ahoy_server server = start(OPTIONS(.listen = listen, .workers = 1));
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    CHECK_OK(ahoy_request(url, NULL, "Hello", 5, answer, sizeof answer, &received)); /* it fits exactly */
    CHECK_EQ(received, 17);
    CHECK_TEXT(answer, "Hello from server");

    /* Who does not care gets nothing, and is told all the same. */
    CHECK_OK(ahoy_request(url, NULL, "Hello", 5, NULL, 0, NULL));
    CHECK_OK(ahoy_request(url, NULL, "Hello", 5, NULL, 0, &received));
    CHECK_EQ(received, 17);
    CHECK_OK(ahoy_request(url, NULL, "Hello", 5, answer, sizeof answer, NULL));

    char small[18] = "untouched";
    CHECK_STATUS(ahoy_request(url, NULL, "Hello", 5, small, 17, &received), AHOY_ERR_TOO_LONG);
    CHECK_STATUS(ahoy_request(url, NULL, "Hello", 5, small, 1, NULL), AHOY_ERR_TOO_LONG);
    ahoy_server_free(server);
}

/* A server that speaks first is asked nothing. */
static void nothing(void) {
    char url[160], answer[32];
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 1, .greet = AHOY_GREET_ON_OPEN));
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    CHECK_OK(ahoy_request(url, NULL, NULL, 0, answer, sizeof answer, NULL));
    CHECK_TEXT(answer, "Hello from server");
    ahoy_server_free(server);
}

/* From many threads at once. */
static void *ask_often(void *url) {
    char answer[32], question[32];
    for (long i = 0; i < rounds(100); i++) {
        int len = snprintf(question, sizeof question, "%ld of %lx", i, (unsigned long)pthread_self());
        CHECK_OK(ahoy_request(url, NULL, question, (size_t)len, answer, sizeof answer, NULL));
        CHECK_TEXT(answer, question);
    }
    return NULL;
}

static void in_threads(void) {
    enum { THREADS = 8 };
    pthread_t threads[THREADS];
    char url[160];
    ahoy_server server = start(OPTIONS(.listen = LOOPBACK, .workers = 2, .on_message = echo));
    CHECK_OK(ahoy_server_address(server, 0, url, sizeof url));
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, ask_often, url));
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_join(threads[i], NULL));
    ahoy_server_free(server);
}

int main(void) {
    char url[96], folder[64];
    memset(large, 'x', sizeof large);
    holdings before = holdings_now();
    in_each_framing();
    over(LOOPBACK);
    over("tcp://[::1]:0");
    over(abstract_url());
    snprintf(folder, sizeof folder, "%s", make_folder());
    snprintf(url, sizeof url, "unix:%s/stream", folder);
    over(url);
    snprintf(url, sizeof url, "unixgram:%s/datagrams", folder);
    over(url);
    over("udp://127.0.0.1:0");
    over("udp://[::1]:0");
    remove_folder();
    the_greeting(LOOPBACK);
    the_greeting("udp://127.0.0.1:0");
    nothing();
    in_threads();
    CHECK_HOLDINGS(before);
    return 0;
}
