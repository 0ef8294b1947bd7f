/* Tests of the parser in nlattr.c; test_messages.c has those of its builder. */
#include "check.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST = 7, NEST = 8, INNER = 9, LAST = 10, MISSING = 11 };

/* Attributes are found by type, flags or not, and only where they are whole. */
void
test_attributes(void)
{
    struct dnet_batch batch = new_batch(1);
    struct nlmsg_writer writer;
    const uint8_t *start;
    const struct nlattr *found;
    size_t nest, length;

    nlmsg_begin(&writer, &batch, 0, 0, 0);
    nla_put_u8(&writer, FIRST, 1);
    nest = nla_nest_open(&writer, NEST);
    nla_put_u32(&writer, INNER, 0x12345678);
    nla_nest_close(&writer, nest);
    nla_put_string(&writer, LAST, "last");
    CHECK_EQUAL(nlmsg_end(&writer), 0, "message");
    start = batch.data + NLMSG_HDRLEN;
    length = batch.length - NLMSG_HDRLEN;
    found = nla_find(start, length, NEST);
    CHECK(found && found->nla_type == (NEST | NLA_F_NESTED), "the nest");
    found = found ? nla_find_nested(found, INNER) : NULL;
    CHECK(found && nla_length(found) == 4 && *(uint32_t *)nla_data(found) == 0x12345678, "what is in it");
    CHECK(!nla_find(start, length, INNER), "not beside it");
    CHECK(!nla_find(start, length, MISSING), "no such attribute");
    for (size_t cut = 0; cut <= length; cut++) {
        uint8_t *part = allocate(cut);

        memcpy(part, start, cut);
        found = nla_find(part, cut, LAST);
        CHECK(!found == (cut < length - 3 /* its padding */), "%zu bytes of %zu", cut, length);
        CHECK(!found || !strcmp(nla_data(found), "last"), "%zu bytes of %zu", cut, length);
        if (cut == length)
            ((struct nlattr *)part)->nla_len = NLA_HDRLEN - 1;
        CHECK(cut < length || !nla_find(part, cut, LAST), "behind an attribute shorter than its header");
        free(part);
    }
    free(batch.data);
}
