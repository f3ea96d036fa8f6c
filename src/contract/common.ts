/** Shapes that more than one resource uses. Limits and patterns are those of the published model. */
import { integer, map, optional, required, string } from './shape.ts';

/** The model sets no limit; these are the vendor's usual ones for tags, checked in domain/tag.ts. */
export const tags = map(string());

/** Opaque; a page token is refused in domain/page.ts when it was not made for this list. */
export const nextToken = optional(string({ max: 1024 }));

/** Of lists that let the caller name a number. Their pages may be shorter all the same. */
export const maxResults = optional(integer({ min: 1, max: 100 }));

/** Path labels are plain strings in the model; ids that match nothing answer 404, not 400. */
export const label = required(string());

/** 22 characters of base64url, the form of every id but the studio's. */
export const shortId = string({ min: 0, max: 22, pattern: /^[a-zA-Z0-9-_]*$/ });

/** An empty one is allowed by the published model. */
export const roleArn = string({ min: 0, max: 2048 });

/** Entries of a page where the API lets the caller name no number. */
export const PAGE_LENGTH = 100;

/** The model's lists of members hold no more, though a caller may ask for a hundred. */
export const MEMBERS_PAGE_LENGTH = 20;
export const MEMBERS_PER_PUT_MAX = 20;
