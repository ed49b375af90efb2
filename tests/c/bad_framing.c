/*
 * Framings that are wrong, in the query of a URL or in the options: each is refused with its status and a detail,
 * and nothing is started.
 */
#include "wire.h"

static int wrong;

static void refuse(const char *what, ahoy_server_options options, ahoy_status expected) {
    ahoy_server server = { 77 };
    holdings before = holdings_now();
    ahoy_status status = ahoy_server_start(&options, &server);
    if (status != expected) {
        fprintf(stderr, "%s: %s, not %s\n", what, ahoy_status_name(status), ahoy_status_name(expected));
        wrong++;
        if (status == AHOY_OK) ahoy_server_free(server);
        return;
    }
    CHECK_EQ(server.id, 77);
    CHECK(strlen(ahoy_last_error()) > 0);
    CHECK_HOLDINGS(before);
}

static void queries(void) {
    static const char *const bad[] = {
        "?framing", "?framing=", "?framing=line", "?framing=Lines", "?framing=2", "?lines", "?x=1",
        "?framing=lines&x=1", "?framing=lines&", "?&framing=lines", "?framing=lines&framing=raw",
        "?framing=lines?framing=raw", "?framing= lines", "?framing=length&length_bytes=3",
        "?framing=length&length_bytes=8", "?framing=length&length_bytes=-1", "?framing=length&length_bytes=",
        "?framing=length&length_bytes=2x", "?framing=length&length_bytes=99999999999999999999",
        "?framing=length&length_order=middle", "?framing=length&length_order=",
        "?framing=delimiter", "?framing=delimiter&delimiter=", "?framing=delimiter&delimiter=%",
        "?framing=delimiter&delimiter=%0", "?framing=delimiter&delimiter=%0G", "?framing=delimiter&delimiter=%%",
        "?framing=delimiter&delimiter=a&delimiter=b", "?delimiter=a", "?length_bytes=2", "#framing=lines",
        "?framing=delimiter&delimiter=0123456789012345678901234567890123456789012345678901234567890123X",
    };
    char url[256], name[64];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(url, sizeof url, LOOPBACK "%s", bad[i]);
        ahoy_server_options options = OPTIONS(.listen = url);
        refuse(url, options, AHOY_ERR_URL);
        if (bad[i][0] == '#') continue; /* in a name it is a letter like others */
        snprintf(name, sizeof name, "%s", abstract_url());
        snprintf(url, sizeof url, "%s%s", name, bad[i]);
        refuse(url, options, AHOY_ERR_URL);
    }
}

static void in_options(int32_t framing, ahoy_framing_options particulars, ahoy_status expected) {
    char what[128];
    snprintf(what, sizeof what, "framing %d, size %zu, delimiter %s of %zu bytes, length_bytes %u, order %d",
             framing, particulars.size, particulars.delimiter ? "there" : "NULL", particulars.delimiter_bytes,
             particulars.length_bytes, particulars.length_order);
    refuse(what, OPTIONS(.listen = LOOPBACK, .framing = framing, .framing_options = &particulars), expected);
}

#define PARTICULARS(...) ((ahoy_framing_options){ .size = sizeof(ahoy_framing_options), __VA_ARGS__ })

static void options(void) {
    static const char bytes[65] = "0123456789012345678901234567890123456789012345678901234567890123";
    const int32_t kinds[] = { -1, 5, INT32_MAX, INT32_MIN };
    for (int i = 0; i < 4; i++) refuse("framing", OPTIONS(.listen = LOOPBACK, .framing = kinds[i]), AHOY_ERR_ENUM);
    for (uint32_t width = 3; width < 10; width += width == 3 ? 2 : 1) {
        in_options(AHOY_FRAMING_LENGTH, PARTICULARS(.length_bytes = width), AHOY_ERR_INVALID);
    }
    in_options(AHOY_FRAMING_LENGTH, PARTICULARS(.length_bytes = UINT32_MAX), AHOY_ERR_INVALID);
    in_options(AHOY_FRAMING_LENGTH, PARTICULARS(.length_order = 2), AHOY_ERR_ENUM);
    in_options(AHOY_FRAMING_LENGTH, PARTICULARS(.length_order = -1), AHOY_ERR_ENUM);

    refuse("no delimiter", OPTIONS(.listen = LOOPBACK, .framing = AHOY_FRAMING_DELIMITER), AHOY_ERR_NULL);
    in_options(AHOY_FRAMING_DELIMITER, PARTICULARS(.delimiter_bytes = 3), AHOY_ERR_NULL);
    in_options(AHOY_FRAMING_DELIMITER, PARTICULARS(.delimiter = ""), AHOY_ERR_INVALID);
    in_options(AHOY_FRAMING_DELIMITER, PARTICULARS(.delimiter = bytes, .delimiter_bytes = 65), AHOY_ERR_TOO_LONG);

    const size_t sizes[] = { 0, 1, sizeof(ahoy_framing_options) - 1, SIZE_MAX };
    for (int i = 0; i < 4; i++) {
        in_options(AHOY_FRAMING_LENGTH, (ahoy_framing_options){ .size = sizes[i] }, AHOY_ERR_SIZE);
    }
}

int main(void) {
    queries();
    options();
    CHECK_EQ(wrong, 0);
    return 0;
}
