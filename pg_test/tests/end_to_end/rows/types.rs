//! The types that a column can have, each with values as SQL expressions. What is made of other
//! types (arrays, domains, ranges, composites) is derived or defined in [`DEFINITIONS`].

/// Types, and values that are cast to them.
pub const BASE: &[(&str, &[&str])] = &[
    ("bool", &["true", "false"]),
    ("int2", &["0", "'-32768'", "32767"]),
    ("int4", &["0", "'-2147483648'", "2147483647"]),
    ("int8", &["0", "'-9223372036854775808'", "9223372036854775807", "9007199254740993"]),
    ("float4", &["0", "'-0'", "0.1", "3.4e38", "1e-45", "'NaN'", "'Infinity'", "'-Infinity'"]),
    ("float8", &["0.1 + 0.2", "'-0'", "1e308", "5e-324", "1e15", "'NaN'", "'-Infinity'", "1.0/3"]),
    (
        "numeric",
        &[
            "0",
            "'-0.000'",
            "12.50",
            "1e-20",
            "1e30",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "10000",
            "repeat('9', 1000)",
            "'-0.' || repeat('12345', 300)",
            "0.0001",
            "'100000000.00010'",
        ],
    ),
    ("money", &["12.5", "'-1234567.89'", "0"]),
    (
        "text",
        &[
            "''",
            "'plain'",
            "' padded '",
            r#"'"quoted" \ back/slash'"#,
            "E'\\b\\f\\n\\r\\t\\x01\\x1f\\x7f'",
            "'Grüße'",
            "'null'",
            "repeat('x', 10000)",
            "repeat('ä', 3000)",
            "(SELECT string_agg(md5(g::text), E'\\n') FROM generate_series(1, 400) g)",
            "'sixteen letters!' || E'\\t' || 'and more than that'",
        ],
    ),
    ("varchar(20)", &["''", "'é \"'", "'trailing  '"]),
    ("bpchar", &["'a '", "''"]),
    ("char(5)", &["'a'", "'ab\"'"]),
    (r#""char""#, &["'a'", "''", r"'\'", "'\"'"]),
    ("name", &["'pg_class'", "'Grüße \"q\"'", "repeat('n', 63)"]),
    ("bytea", &["''", r"'\x00ff5c22'", r"decode(repeat('00ff', 3000), 'hex')"]),
    ("uuid", &["'00112233-4455-6677-8899-aabbccddeeff'", "'ffffffffffffffffffffffffffffffff'"]),
    (
        "date",
        &[
            "'2026-01-02'",
            "'infinity'",
            "'-infinity'",
            "'0044-03-15 BC'",
            "'4713-01-01 BC'",
            "'0001-01-01'",
            "'9999-12-31'",
            "'10000-01-01'",
            "'5874897-12-31'",
            "'2024-02-29'",
        ],
    ),
    ("time", &["'00:00'", "'24:00'", "'12:34:56.789'"]),
    ("timetz", &["'00:00+00'", "'23:59:59.999999-15:59'"]),
    (
        "timestamp",
        &[
            "'2026-01-02 03:04:05'",
            "'2026-01-02 03:04:05.6'",
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 BC'",
            "'0001-12-31 23:59:59.999999 BC'",
            "'294276-12-31 23:59:59.999999'",
            "'0001-01-01'",
            "'1999-12-31 23:59:59.999999'",
            "'9999-12-31 23:59:59.999999'",
        ],
    ),
    (
        "timestamptz",
        &[
            "'2026-07-02 03:04:05+00'",
            "'2026-01-02 03:04:05.067+05:30'",
            "'infinity'",
            "'-infinity'",
            "'4713-01-02 BC'",
            "'294276-12-31 10:00+00'",
            "'1883-11-18 12:00:00+00'",
            "'0001-01-01 00:00:00+00'",
            "'0001-12-31 23:00:00+00 BC'",
            "'10000-01-01 00:00:00+00'",
        ],
    ),
    ("interval", &["'0'", "'1 year -2 days 03:04:05.6'", "'-1 mon'", "'178000000 years'"]),
    ("json", &["'{\"a\" : [1, 2 ],\"a\": \"\\u00e9\"}'", "'null'", "' 12.50 '"]),
    (
        "jsonb",
        &[
            "'{\"b\": [1, null, \"é\\n\"], \"a\": 1e3}'",
            "'null'",
            "'\"\"'",
            "'[]'",
            "'-12.30'",
            "'{\"\": {}, \"x\": [[], {}, [true, false]], \"\\u0001\\\"\": \"\\u001f\"}'",
            // Of which not every child says where it ends.
            "(SELECT jsonb_object_agg('key ' || g, jsonb_build_array(g, g::text, g / 7.0, NULL, \
              repeat('é', g % 50), jsonb_build_object('x', g))) FROM generate_series(1, 300) g)",
            "(SELECT jsonb_agg(repeat('\"', g % 9) || g) FROM generate_series(1, 200) g)",
            "repeat('{\"a\": [', 60) || '-0.50' || repeat(']}', 60)",
            "repeat('[', 1000) || '1' || repeat(']', 1000)",
        ],
    ),
    ("jsonpath", &["'$.a[*] ? (@ > 1)'"]),
    ("xml", &["'<a b=\"c\">é</a>'", "'<?xml version=\"1.0\" encoding=\"UTF-8\"?><a/>'"]),
    ("bit(3)", &["B'101'"]),
    ("bit", &["B'1'"]),
    ("varbit", &["B''", "B'10101010101'"]),
    ("inet", &["'192.168.0.1/24'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'", "'2001:db8::/32'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("macaddr8", &["'08:00:2b:01:02:03:04:05'"]),
    ("point", &["'(1.5,-2)'", "'(NaN,Infinity)'"]),
    ("line", &["'{1,2,3}'"]),
    ("lseg", &["'[(0,0),(1,1)]'"]),
    ("box", &["'((0,0),(1,1))'"]),
    ("path", &["'[(0,0),(1,1),(0.1,0.3)]'"]),
    ("polygon", &["'((0,0),(1,1),(2,0))'"]),
    ("circle", &["'<(0,0),2.5>'"]),
    ("tsvector", &["'a:1A fat cat''s:2,3'", "''"]),
    ("tsquery", &["'fat & (rat | !cat:*)'"]),
    ("gtsvector", &[]),
    ("pg_lsn", &["'16/B374D848'"]),
    ("txid_snapshot", &["'10:20:10,14,15'"]),
    ("pg_snapshot", &["'10:20:10,14,15'"]),
    ("xid", &["'42'"]),
    ("xid8", &["'18446744073709551615'"]),
    ("cid", &["'7'"]),
    ("tid", &["'(42,7)'"]),
    ("oid", &["4294967295"]),
    ("oidvector", &["'1 2 3'", "''"]),
    ("int2vector", &["'1 -2 3'"]),
    ("refcursor", &["'cursor \"c\"'"]),
    ("aclitem", &["'postgres=r/postgres'"]),
    ("regproc", &["'pg_catalog.now'", "0"]),
    ("regprocedure", &["'pg_catalog.abs(int4)'", "'odd.\"Do It\"(int4)'"]),
    ("regoper", &["'pg_catalog.||/'"]),
    ("regoperator", &["'pg_catalog.+(int4,int4)'"]),
    ("regclass", &["'pg_class'", "'odd.\"A Table\"'", "0"]),
    ("regcollation", &["'pg_catalog.\"C\"'"]),
    ("regtype", &["'int4'", "'odd.mood'", "'odd.\"Pair\"[]'"]),
    // A constant of this type cannot be a column's default (find_expr_references_walker).
    ("regrole", &["text 'postgres'"]),
    ("regnamespace", &["'pg_catalog'", "'odd'"]),
    ("regconfig", &["'pg_catalog.simple'"]),
    ("regdictionary", &["'pg_catalog.simple'"]),
    ("int4range", &["'[1,5)'", "'empty'", "'(,)'"]),
    ("int8range", &["'[1,)'"]),
    ("numrange", &["'(1.50,2.5]'"]),
    ("tsrange", &["'[2026-01-01 00:00,2026-01-02 12:00:00.5)'"]),
    ("tstzrange", &["'[2026-01-01 00:00+00,infinity]'"]),
    ("daterange", &["'[2026-01-01,2026-02-01)'"]),
    ("int4multirange", &["'{[1,3),[5,7)}'", "'{}'"]),
    ("int8multirange", &["'{[1,3)}'"]),
    ("nummultirange", &["'{[1.1,3.3)}'"]),
    ("tsmultirange", &["'{[2026-01-01,2026-01-02)}'"]),
    ("tstzmultirange", &["'{[2026-01-01 00:00+00,2026-01-02 00:00+00)}'"]),
    ("datemultirange", &["'{[2026-01-01,2026-01-02),[2027-01-01,)}'"]),
    ("pg_node_tree", &[]),
    ("pg_ndistinct", &[]),
    ("pg_dependencies", &[]),
    ("pg_mcv_list", &[]),
    ("pg_brin_bloom_summary", &[]),
    ("pg_brin_minmax_multi_summary", &[]),
];

/// Objects that the types below need, in a schema that is in nobody's search_path.
pub const DEFINITIONS: &str = r#"
    CREATE SCHEMA odd;
    CREATE TABLE odd."A Table" (id int);
    CREATE FUNCTION odd."Do It"(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
    CREATE TYPE odd.mood AS ENUM ('sad', 'so "so"', 'happy');
    CREATE TYPE odd.fuse AS ENUM ('lit', 'out');
    CREATE FUNCTION odd.fuse_to_json(odd.fuse) RETURNS json LANGUAGE sql AS
        $$ SELECT json_build_object('fuse', $1::text, 'at', '2026-01-02'::date) $$;
    CREATE CAST (odd.fuse AS json) WITH FUNCTION odd.fuse_to_json(odd.fuse);
    CREATE DOMAIN odd.positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN odd.words AS text[];
    CREATE DOMAIN odd.moment AS timestamptz;
    CREATE DOMAIN odd.price AS money;
    CREATE TYPE odd."Pair" AS ("a ""b""" int, at timestamptz, what regclass, "é" text[]);
    CREATE TYPE odd.nested AS (pair odd."Pair", pairs odd."Pair"[], gone int, felt odd.mood,
                               lit odd.fuse, paid odd.price);
    ALTER TYPE odd.nested DROP ATTRIBUTE gone;
    CREATE DOMAIN odd.pair_domain AS odd."Pair";
    CREATE TYPE odd.moods AS RANGE (subtype = odd.mood);
    CREATE TYPE odd.prices AS RANGE (subtype = money);
    CREATE TYPE odd.moments AS RANGE (subtype = odd.moment);
"#;

/// Types of a user's, and what is made of types.
pub const DERIVED: &[(&str, &[&str])] = &[
    ("odd.mood", &["'so \"so\"'", "'sad'"]),
    ("odd.fuse", &["'lit'", "'out'"]),
    ("odd.positive", &["7"]),
    ("odd.words", &["ARRAY['a', NULL, 'b \"c\"']", "'{}'"]),
    ("odd.moment", &["'2026-01-02 03:04:05+00'"]),
    ("odd.price", &["'1234.5'"]),
    (
        "odd.\"Pair\"",
        &["ROW(1, '2026-01-02 00:00+00', 'odd.\"A Table\"', ARRAY['x'])", "ROW(NULL, NULL, NULL, NULL)"],
    ),
    (
        "odd.nested",
        &[
            "ROW(ROW(1, 'infinity', 'pg_class', '{}'), ARRAY[ROW(2, NULL, NULL, NULL)::odd.\"Pair\"],
                 'happy', 'lit', '-5')",
        ],
    ),
    ("odd.pair_domain", &["ROW(1, '2026-01-02 00:00+00', 'pg_class', NULL)"]),
    ("odd.moods", &["'[sad,happy)'"]),
    ("odd.prices", &["'[$1.5,$2.5)'"]),
    ("odd.moments", &["'[2026-01-02 00:00+00,2026-01-03 00:00+00)'"]),
    ("odd.moods_multirange", &["'{[sad,happy)}'"]),
    ("int[]", &["'{1,NULL,3}'", "'{{1,2},{3,NULL}}'", "'[5:7]={1,2,3}'", "'{{{1},{2}},{{3},{4}}}'"]),
    ("int2[]", &["'{-1,2,NULL}'"]),
    ("bool[]", &["'{t,f,NULL}'"]),
    ("text[]", &["'{a,\"b \\\"c\\\"\",NULL,\"\"}'", "ARRAY[repeat('y', 9000), 'z']"]),
    (
        "numeric[]",
        &[
            "'{1.50,NaN,1e40}'",
            "(SELECT array_agg(round((-1.7) ^ e * g, s)) FROM generate_series(1, 9) g, \
              generate_series(-60, 90, 7) e, generate_series(0, 40, 5) s)",
        ],
    ),
    ("float8[]", &["'{0.1,Infinity,NULL,-0}'"]),
    ("timestamptz[]", &["'{2026-01-02 03:04+00,infinity,NULL}'"]),
    ("date[]", &["'{2026-01-02,0044-03-15 BC}'"]),
    ("uuid[]", &["'{00112233-4455-6677-8899-aabbccddeeff,NULL}'"]),
    ("bytea[]", &["ARRAY['\\x00'::bytea, '']"]),
    ("jsonb[]", &["ARRAY['{\"a\": 1}'::jsonb, NULL]"]),
    ("json[]", &["ARRAY['{\"a\" :1}'::json]"]),
    ("name[]", &["ARRAY['a', 'b\"']"]),
    (r#""char"[]"#, &["ARRAY['a', '\"']"]),
    ("money[]", &["ARRAY['1.5'::money]"]),
    ("interval[]", &["ARRAY['1 day 2 hours'::interval]"]),
    ("regclass[]", &["ARRAY['odd.\"A Table\"'::regclass]"]),
    ("point[]", &["ARRAY['(1,2)'::point]"]),
    ("box[]", &["'{(1,1),(0,0);(2,2),(1,1)}'"]),
    ("timetz[]", &["ARRAY['00:00+01'::timetz, '01:00-01']"]),
    ("bit(3)[]", &["ARRAY[B'101', B'000']"]),
    ("macaddr[]", &["ARRAY['08:00:2b:01:02:03'::macaddr, NULL, '08:00:2b:01:02:04']"]),
    ("daterange[]", &["ARRAY['[2026-01-01,2026-02-01)'::daterange]"]),
    ("odd.mood[]", &["ARRAY['sad', 'happy']"]),
    ("odd.fuse[]", &["ARRAY['lit', NULL]"]),
    ("odd.positive[]", &["ARRAY[1, 2]"]),
    ("odd.words[]", &["ARRAY['{a,b}'::odd.words, '{}']"]),
    ("odd.\"Pair\"[]", &["ARRAY[ROW(1, now(), 'pg_class', '{a}')::odd.\"Pair\", NULL]"]),
];

/// Types of extensions: extension, type, values.
pub const OF_EXTENSIONS: &[(&str, &str, &[&str])] = &[
    ("hstore", "hstore", &["'a=>1, \"b \\\"c\"=>NULL'", "''"]),
    ("citext", "citext", &["'MiXed \"é\"'"]),
    ("ltree", "ltree", &["'Top.Science'"]),
    ("cube", "cube", &["'(1, 0.1),(3, 4)'"]),
];
