-- Of an iteration path, what comes before the index of its n-th loop: 'a[' and 'a[1].b[' of 'a[1].b[2]'. NULL if there
-- are not so many.
CREATE OR REPLACE FUNCTION gorax_loop_prefix(p_path text, p_level integer) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $function$
    SELECT CASE WHEN split_part(p_path, '[', p_level + 1) <> '' THEN
        array_to_string((string_to_array(p_path, '['))[1:p_level], '[') || '['
    END
$function$;
