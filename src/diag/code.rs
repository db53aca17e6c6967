//! The stable codes of diagnostics, each with the page that `pipewright explain` prints.

macro_rules! codes {
    ($($variant:ident => $text:literal, $explanation:literal;)*) => {
        /// A stable code; the words never change their meaning once released.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code { $(#[doc = $explanation] $variant),* }

        impl Code {
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Returns the code as it is shown, e.g. `unknown-step`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// Returns what `pipewright explain` prints: what it means, an example, the mend.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation),* }
            }
        }
    };
}

codes! {
    YamlSyntax => "yaml-syntax", "The text is not YAML.\n\nThe place is where the parser gave up; the cause often stands a line before: a bracket or quote that is not closed, a tab, a line that is indented differently from its neighbors.\n\n```yaml\nname: \"unclosed   # bad\nname: \"closed\"    # good\n```";
    UnknownKey => "unknown-key", "A key that this place does not know.\n\nNothing is ignored in silence: a key that is not known is an error, so that a typing mistake cannot switch something off.\n\n```yaml\ntimout: 5m   # bad\ntimeout: 5m  # good\n```";
    MissingKey => "missing-key", "A key that must be given is not there.\n\n```yaml\na: { with: { message: hi } }                    # bad\na: { uses: log.write, with: { message: hi } }   # good\n```";
    WrongType => "wrong-type", "A value of another type than is asked for here.\n\n```yaml\nneeds: draft     # bad: a text\nneeds: [draft]   # good: a list\n```";
    DuplicateKey => "duplicate-key", "A name is given twice where it must be one.\n\nTwice in one mapping one of the two values would be lost; steps of `on_failure` and `finally` share their names with `steps`.\n\n```yaml\nsteps:\n  a: { uses: log.write, with: { message: one } }\n  a: { uses: log.write, with: { message: two } }   # bad: call it `b`\n```";
    TooLarge => "too-large", "The file is larger, deeper or has more nodes than is allowed.\n\nAliases count as what they stand for. Large data belongs into a file that a step reads.\n\n```yaml\nbig:\n  uses: csv.read\n  with: { file: data/big.csv }   # good\n```";
    EmptyFile => "empty-file", "The file holds nothing, or comments only.\n\nThe smallest pipeline has one step:\n\n```yaml\nsteps:\n  hello: { uses: log.write, with: { message: hello } }\n```";
    YamlTag => "yaml-tag", "A YAML tag such as `!secret`.\n\nTags mean nothing here. Secrets are read by expressions.\n\n```yaml\nkey: !secret API_KEY               # bad\nkey: \"{{ secrets.API_KEY }}\"       # good\n```";
    YamlMerge => "yaml-merge", "A merge key `<<`.\n\nMerge keys are not part of YAML 1.2. Write the keys out; what all steps share stands in `defaults`.\n\n```yaml\ndefaults: { timeout: 30s }   # good\n```";
    NotUtf8 => "not-utf8", "The file is not UTF-8 text.\n\nEditors call the other encodings Latin-1, Windows-1252 or UTF-16. Save the file as UTF-8.\n\n```sh\niconv -f latin1 -t utf-8 old.yaml > new.yaml\n```";
    UnknownNode => "unknown-node", "`uses` names something that does not exist.\n\n```yaml\nuses: http.reqest   # bad\nuses: http.request  # good\n```\n\n`pipewright nodes` lists all nodes.";
    UnknownOperation => "unknown-operation", "A connector has no operation of this name.\n\n```yaml\nuses: x.create_pots   # bad\nuses: x.create_post   # good\n```\n\n`pipewright connectors show x` lists the operations of a connector.";
    UnsettledWrite => "unsettled-write", "A write of a manifest does not say what is to be done when its answer is lost.\n\nWithout it nobody could know whether the write happened. `repeat: always` says that sending again does no harm; `reconcile` says how to ask; `reconcile: none` says aloud that nobody can tell.\n\n```yaml\ncreate: { effect: create, request: { post: /orders } }                                   # bad\ncreate: { effect: create, request: { post: /orders }, reconcile: { operation: list, found: \"{{ item.key == effect.key }}\" } }   # good\n```";
    UnknownStep => "unknown-step", "A step is named that the pipeline does not have.\n\n```yaml\nneeds: [refelct]  # bad\nneeds: [reflect]  # good: the id of a step under `steps:`\n```";
    UnknownInput => "unknown-input", "An input is named that is not declared.\n\n```yaml\ninputs: { topic: { type: string } }\ntext: \"{{ inputs.topik }}\"  # bad\ntext: \"{{ inputs.topic }}\"  # good\n```";
    UnknownName => "unknown-name", "An expression reads a name that does not exist at this place.\n\nThe roots are `inputs`, `steps`, `secrets`, `run`; `item` and `index` in a `for_each`; `output` in `until` and `undo`; `previous` in `until` and `for_each`; `event` in a trigger; `effects` in `guards.plan`. There is no environment and no file system.\n\n```yaml\ntext: \"{{ topic }}\"          # bad\ntext: \"{{ inputs.topic }}\"   # good\n```";
    UnknownField => "unknown-field", "A field is read that the value does not have.\n\nWhat a step gives is known from its node: `pipewright nodes NAME` shows the output. The fields of `run` are `id`, `pipeline`, `slot`, `state` and `error`; those of a step `output`, `state` and `error`.\n\n```yaml\ntext: \"{{ steps.load.content }}\"          # bad\ntext: \"{{ steps.load.output.content }}\"   # good\n```";
    WrongOperation => "wrong-operation", "An operator or filter does not go with values of these kinds.\n\nWhat an expression gives is known from the inputs, the nodes and the filters that it reads. `~` joins texts; `| decimal` reads a number from a text, `| datetime` a moment, `| money` money.\n\n```yaml\ntext: \"{{ 'total ' + inputs.count }}\"   # bad: a text and a number\ntext: \"{{ 'total ' ~ inputs.count }}\"   # good\n```";
    NeverEqual => "never-equal", "Two values are compared that can never be equal, as they are of different kinds.\n\n```yaml\nwhen: \"{{ inputs.count == '3' }}\"   # bad: a number is no text\nwhen: \"{{ inputs.count == 3 }}\"     # good\n```";
    MixedCurrencies => "mixed-currencies", "Money of two currencies is added, compared or divided.\n\nThere is no rate that would be right for everybody: convert one of them, and say by which rate.\n\n```yaml\nsum: \"{{ (5 | money('USD')) + (5 | money('EUR')) }}\"   # bad\nsum: \"{{ (5 | money('USD')) + (5 * inputs.rate) | money('USD') }}\"   # good\n```";
    InexactNumber => "inexact-number", "A binary float meets money or a decimal.\n\nFloats round: `0.1` is not a tenth in them. Numbers and money are exact here, and a float exists only where `| float` made it.\n\n```yaml\nfee: \"{{ inputs.price * (inputs.rate | float) }}\"   # bad\nfee: \"{{ inputs.price * inputs.rate }}\"             # good\n```";
    BareExpression => "bare-expression", "A text reads as an expression, but has no braces.\n\nWithout `{{ }}` it is a text, the same for every item: a condition that is a text always holds.\n\n```yaml\nto: item.price * 2             # bad: the text `item.price * 2`\nto: \"{{ item.price * 2 }}\"     # good\n```";
    AlwaysTrue => "always-true", "A condition is a text that is never empty, so it always holds.\n\nOne expression alone keeps its type; with text around it, it becomes a text.\n\n```yaml\nwhen: \"{{ inputs.a }} and {{ inputs.b }}\"   # bad: a text\nwhen: \"{{ inputs.a and inputs.b }}\"         # good\n```";
    ExpressionType => "expression-type", "An expression gives a value of another type than is asked for where it stands.\n\nWhat it gives is inferred from the inputs, steps and filters that it reads. One expression alone keeps its type; with text around it, it becomes a text.\n\n```yaml\nevery: \"{{ inputs.count }}\"    # bad: a whole number, not a duration\nevery: \"{{ inputs.count }}s\"   # good\n```";
    UnknownSecret => "unknown-secret", "A secret is read that no place of the project has.\n\nIt is told where `secrets` of the project file names files and folders only: what the environment and the store hold is known when a run starts.\n\n```yaml\nkey: \"{{ secrets.API_KYE }}\"   # bad\nkey: \"{{ secrets.API_KEY }}\"   # good: `.env` has `API_KEY=…`\n```";
    UnknownConnection => "unknown-connection", "A connection is named that the project file does not have.\n\n```yaml\n# pipewright.yaml has connections: { shop: { url: \"sqlite://data/shop.db\" } }\nwith: { database: shpo, sql: SELECT 1 }   # bad\nwith: { database: shop, sql: SELECT 1 }   # good\n```";
    UnknownFilter => "unknown-filter", "A filter, test or function does not exist.\n\n```yaml\ntext: \"{{ inputs.price | roud(2) }}\"   # bad\ntext: \"{{ inputs.price | round(2) }}\"  # good\n```\n\n`pipewright docs expressions` lists all of them.";
    UnknownErrorClass => "unknown-error-class", "`retry.on` names a class that does not exist.\n\nThe classes: throttled, unavailable, timeout, conflict, locked, auth, invalid, rejected, exhausted, canceled, bug.\n\n```yaml\nretry: { on: [rate_limit] }   # bad\nretry: { on: [throttled] }    # good\n```";
    UnknownTimeZone => "unknown-time-zone", "A time zone that does not exist.\n\nUse the names of the IANA data. Abbreviations such as `CEST` are not unique.\n\n```yaml\ntimezone: CEST            # bad\ntimezone: Europe/Berlin   # good\n```";
    UnknownPrompt => "unknown-prompt", "A prompt's file is named that does not exist.\n\nThe path is relative to the pipeline's file; that of an `include` is relative to the prompt's file. It must lie within the project.\n\n```yaml\nwith: { file: prompt/post.md.j2 }    # bad: the folder is called `prompts`\nwith: { file: prompts/post.md.j2 }   # good\n```";
    UnknownPipeline => "unknown-pipeline", "A pipeline is named that the project does not have.\n\nA pipeline is called by its `name`, or by its file in `pipelines/` without `.yaml`.\n\n```yaml\nwith: { pipeline: invoic }    # bad\nwith: { pipeline: invoice }   # good\n```";
    TemplateSyntax => "template-syntax", "The text between `{{` and `}}` is not an expression.\n\n```yaml\ntext: \"{{ inputs.topic }\"   # bad\ntext: \"{{ inputs.topic }}\"  # good\n```";
    DependencyCycle => "dependency-cycle", "Steps wait for each other, so none of them could ever start.\n\nA step waits for those in `needs` and for those that its expressions read. The message names the whole loop.\n\n```yaml\na: { needs: [b], uses: log.write, with: { message: hi } }\nb: { needs: [a], uses: log.write, with: { message: hi } }   # bad: take one `needs` away\n```";
    PipelineCycle => "pipeline-cycle", "A pipeline ends up calling itself through `pipeline.run`.\n\nIt would never end. Repeat with `for_each` or `until` instead.\n\n```yaml\n# in pipelines/again.yaml\nagain: { uses: pipeline.run, with: { pipeline: again } }   # bad\n```";
    FaultyPipeline => "faulty-pipeline", "A child pipeline has faults of its own.\n\nThey are told with its file; when they are mended, this one goes away.\n\n```sh\npipewright validate pipelines/child.yaml\n```";
    DuplicatePipeline => "duplicate-pipeline", "Two files give their pipeline the same name.\n\nWithout `name` a pipeline is called like its file.\n\n```yaml\nname: report           # in a.yaml and in b.yaml: bad\nname: weekly-report    # good\n```";
    MaybeAbsent => "maybe-absent", "The output of a step is read that may not be there.\n\nIts `when` may be false, or it may fail and the run goes on. Say what the value is then.\n\n```yaml\ntext: \"{{ steps.review.output.note }}\"                 # bad\ntext: \"{{ steps.review.output.note | default('') }}\"   # good\n```";
    MustBeLiteral => "must-be-literal", "A key must be written out, not computed.\n\nIt decides what the step does to the world, or which file or pipeline it uses: that must be known before a run.\n\n```yaml\nmethod: \"{{ inputs.method }}\"   # bad\nmethod: POST                    # good\n```";
    InvalidWith => "invalid-with", "The values of `with:` do not go together; the message says which and why.\n\n```yaml\nwith: { file: a.csv, text: \"x,y\" }   # bad: one of the two\nwith: { file: a.csv }                # good\n```";
    OutOfRange => "out-of-range", "A number is smaller or larger than is allowed here.\n\n```yaml\nwith: { file: a.csv, max_rows: -1 }     # bad\nwith: { file: a.csv, max_rows: 1000 }   # good\n```";
    CachedEffect => "cached-effect", "A step that changes the world has `cache`.\n\nA hit would leave the effect out. Only pure and read steps are cached; `key` keeps a write from happening twice.\n\n```yaml\nuses: http.request\nwith: { url: \"https://example.com\", method: POST }\ncache: { ttl: 1h }   # bad\n```";
    NotAWrite => "not-a-write", "A key is for changes of the world, and this step makes none.\n\n`undo`, `key`, `in_doubt` and `irreversible` say what becomes of a write.\n\n```yaml\nuses: csv.read\nwith: { file: a.csv }\nin_doubt: resend   # bad: take it away\n```";
    NoUndo => "no-undo", "`undo: auto` takes the undo that the operation declares, and this one declares none.\n\n```yaml\nundo: auto                                                   # bad\nundo: { uses: file.delete, with: { path: \"{{ output.path }}\" } }   # good\n```";
    FailsBehindIrreversible => "fails-behind-irreversible", "A step can fail where the run can no longer go back.\n\nBehind an `irreversible` step the run goes forward only. A step there that fails for good makes a person decide.\n\n```yaml\nreceipt:\n  needs: [pay]          # `pay` is irreversible\n  uses: http.request\n  with: { url: \"https://example.com/receipt\" }\n  on_error: continue    # good\n```";
    UnreachableStep => "unreachable-step", "The step can never run.\n\n```yaml\nwhen: false                         # bad: take the step away\nwhen: \"{{ inputs.publish }}\"        # good\n```";
    SecretShown => "secret-shown", "A secret would flow into a log line.\n\nIt would be masked there, so the line would say nothing.\n\n```yaml\nwith: { message: \"key {{ secrets.API_KEY }}\" }   # bad\nwith: { message: \"key is set\" }                  # good\n```";
    NoMasterKey => "no-master-key", "A secret would have to be stored, and the project has no master key to seal it with.\n\nStored are the inputs of a run, the requests of writes, the outputs of steps and the outputs of the run, so that it can go on after a crash. Only what a reading step is given is not stored.\n\n```sh\npipewright init .                              # makes .pipewright/master.key\nexport PIPEWRIGHT_MASTER_KEY=\"$(cat key.txt)\"   # or from elsewhere\n```";
    BadDuration => "bad-duration", "Not a length of time.\n\nWhole numbers with units, largest first: `w d h m s ms us`.\n\n```yaml\ntimeout: 1.5h    # bad\ntimeout: 1h30m   # good\n```";
    BadTime => "bad-time", "Not a moment.\n\nWrite RFC 3339, with the offset or `Z`.\n\n```yaml\nat: tomorrow                # bad\nat: 2026-01-31T09:00:00Z    # good\n```";
    BadCron => "bad-cron", "Not a schedule.\n\nFive fields (minute hour day month weekday), six with seconds in front, or `@daily` and its like. Sunday is 0 or `SUN`.\n\n```yaml\ncron: \"9:00 daily\"          # bad\ncron: \"0 9 * * MON-FRI\"     # good\n```";
    BadPattern => "bad-pattern", "Not a regular expression.\n\n```yaml\npattern: \"[\"             # bad\npattern: \"^[A-Z]{1,5}$\"  # good\n```";
    BadDefault => "bad-default", "The default of an input does not fit its own type, `enum`, `pattern` or bounds.\n\n```yaml\nbudget: { type: money, default: 5 }            # bad\nbudget: { type: money, default: \"5.00 USD\" }   # good\n```";
    BadName => "bad-name", "A step's name must be letters, digits and `_`.\n\nExpressions say `steps.NAME`, and a `-` would be a minus there.\n\n```yaml\nsteps:\n  my-step: { uses: log.write, with: { message: hi } }   # bad\n  my_step: { uses: log.write, with: { message: hi } }   # good\n```";
    Unreadable => "unreadable", "The file cannot be read.\n\nIt is gone, a folder, or not allowed to you.\n\n```sh\nls -l pipelines/\n```";
}
