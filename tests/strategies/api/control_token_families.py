"""Control tokens of the chat templates of model families, separated by spaces."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_FAMILIES = {
    "ChatML and Qwen": """
        <|im_start|> <|im_end|> <|im_sep|> <|endoftext|> <|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|>
        <|video_pad|> <|audio_bos|> <|AUDIO|> <|object_ref_start|> <|box_end|> <|quad_start|> <|fim_prefix|>
        <|repo_name|> <|file_sep|> <tool_call> </tool_call> <tool_response> </tool_response> <think> </think> <tools>
        </tools> /no_think
    """,
    "Llama 2": "<s> </s> <unk> [INST] [/INST] <<SYS>> <</SYS>> <PRE> <SUF> <MID> <EOT> \u2581<PRE>",
    "Llama 3": """
        <|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|> <|eom_id|> <|python_tag|>
        <|finetune_right_pad_id|> <|reserved_special_token_0|> <|image|>
    """,
    "Llama 4": """
        <|header_start|> <|header_end|> <|eot|> <|eom|> <|step|> <|python_start|> <|python_end|> <|image_start|>
        <|patch|> <|tile_x_separator|> <|reasoning_thinking_start|>
    """,
    "Mistral": """
        [INST] [/INST] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_CALLS] [TOOL_RESULTS]
        [/TOOL_RESULTS] [TOOL_CONTENT] [MODEL_SETTINGS] [/MODEL_SETTINGS] [THINK] [/THINK] [ARGS] [CALL_ID] [IMG]
        [IMG_BREAK] [IMG_END] [AUDIO] [BEGIN_AUDIO] [TRANSCRIBE] [STREAMING_PAD] [STREAMING_WORD] [NEXT_AUDIO_TEXT]
        [REPEAT_AUDIO_TEXT] [PREFIX] [MIDDLE] [SUFFIX] [control_8] <SPECIAL_20> <s> </s> <unk> <pad>
    """,
    "Gemma 3": """
        <start_of_turn> <end_of_turn> <bos> <eos> <pad> <unk> <mask> <start_of_image> <end_of_image> <image_soft_token>
        <unused0> <unused12> [multimodal]
    """,
    "Gemma 4": """
        <|turn> <turn|> <|channel> <channel|> <|think|> <|tool> <tool|> <|tool_call> <tool_call|> <|tool_response>
        <tool_response|> <|"|> <|image> <image|> <|image|> <|audio> <audio|> <|audio|> <|video|>
    """,
    "DeepSeek": """
        <\uff5cbegin\u2581of\u2581sentence\uff5c> <\uff5cend\u2581of\u2581sentence\uff5c> <\uff5cUser\uff5c>
        <\uff5cAssistant\uff5c> <\uff5ctool\u2581calls\u2581begin\uff5c> <\uff5ctool\u2581call\u2581begin\uff5c>
        <\uff5ctool\u2581sep\uff5c> <\uff5ctool\u2581outputs\u2581end\uff5c> <\uff5cfim\u2581hole\uff5c>
        <\uff5c\u2581pad\u2581\uff5c> <\uff5cplace\u2581holder\u2581no\u25817\uff5c> \uff5cDSML\uff5c
        <\uff5cDSML\uff5cinvoke </\uff5cDSML\uff5cinvoke> <|EOT|> <think> </think>
    """,
    "GLM": """
        [gMASK] [sMASK] [MASK] <sop> <eop> <|system|> <|user|> <|assistant|> <|observation|> <|endoftext|> <tool_call>
        <arg_key> </arg_key> <arg_value> </arg_value> <think> </think> /nothink <|begin_of_image|> <|begin_of_box|>
        <|code_prefix|>
    """,
    "Kimi": """
        <|im_system|> <|im_user|> <|im_assistant|> <|im_middle|> <|im_end|> <|tool_calls_section_begin|>
        <|tool_call_begin|> <|tool_call_argument_begin|> <|tool_calls_section_end|> <|media_begin|> <|media_pad|> [BOS]
        [EOS] [PAD] [UNK] [EOT] [extra_id_0] [start_header_id] [end_header_id] \u25c1think\u25b7 \u25c1/think\u25b7
    """,
    "MiniMax": """
        ]~b] ]~!b[ [e~[ ]!d~[ ]!p~[ ]<]image[>[ ]<]start_of_image[>[ <minimax:tool_call> </minimax:tool_call>
        <beginning_of_sentence> <end_of_sentence> <code_interpreter> <fim_prefix> <think>
    """,
    "Phi": "<|system|> <|user|> <|assistant|> <|end|> <|tool|> <|/tool|> <|tool_call|> <|dummy_0|> <|endofprompt|>",
    "Command": """
        <|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|> <|SYSTEM_TOKEN|> <|USER_TOKEN|> <|CHATBOT_TOKEN|>
        <|START_THINKING|> <|END_THINKING|> <|START_RESPONSE|> <|END_RESPONSE|> <|START_ACTION|> <|START_TOOL_RESULT|>
        <BOS_TOKEN> <EOS_TOKEN> <MASK_TOKEN> <EOP_TOKEN> <PAD> <UNK> <CLS> <SEP>
    """,
    "GPT-OSS": """
        <|start|> <|end|> <|message|> <|channel|> <|constrain|> <|call|> <|return|> <|startoftext|> <|reserved_200000|>
    """,
    "Granite": """
        <|start_of_role|> <|end_of_role|> <|end_of_text|> <|tool_call|> <|start_of_cite|> <|start_of_plugin|>
        <tool_response>
    """,
    "Nemotron": "<SPECIAL_10> <SPECIAL_12> <extra_id_0> <extra_id_1> <TOOLCALL> </TOOLCALL> <AVAILABLE_TOOLS> <TOOL_RESPONSE>",
    "Seed": """
        <seed:think> </seed:think> <seed:bos> <seed:eos> <seed:tool_call> <seed:cot_budget_reflect>
        <[begin\u2581of\u2581sentence]> <[end\u2581of\u2581sentence]> <[fim-suffix]> <[PLHD12_never_used]>
    """,
    "Falcon": "<|im_start|> >>QUESTION<< >>ANSWER<< >>ABSTRACT<< >>EMAIL_DOMAIN<< >>UNUSED_12<< <|endoftext|>",
    "OLMo": "<|endoftext|> <|user|> <|assistant|> <|pad|> <functions> </functions> <function_calls> </function_calls>",
    "Hunyuan": """
        <\uff5chy_User\uff5c> <\uff5chy_Assistant\uff5c> <\uff5chy_begin\u2581of\u2581sentence\uff5c>
        <\uff5chy_place\u2581holder\u2581no\u25812\uff5c> <|startoftext|> <|eos|> <|extra_0|> <answer> </answer>
    """,
    "ERNIE": """
        <|begin_of_sentence|> <|end_of_sentence|> <cls> <sep> <mask:0> <mask:7> <response> </response> <tool_output>
        <|IMAGE_START|> <|LOC_0|> <unk> <pad>
    """,
    "InternLM": "<|im_start|> <|action_start|> <|action_end|> <|interpreter|> <|plugin|> [UNUSED_TOKEN_145] <IMG_CONTEXT>",
    "Yi": "<|im_start|> <|startoftext|> <|Human|> <|System|> <|reserved003|> <fim_middle>",
    "Jamba": "<|startoftext|> <|bom|> <|eom|> <|system|> <|bot|> <|pad|> <|unk|>",
    "EXAONE": "[|system|] [|user|] [|assistant|] [|endofturn|] [|tool|] <thought> </thought> <tool_result> [BOS]",
    "BlueLM": "[|Human|] [|AI|]",
    "Solar": "<|im_start|> <|begin|> <|flush|> <|content|> <|think|> <|tool_call:begin|> <|tool_response:end|>",
    "LFM": "<|tool_list_start|> <|tool_list_end|> <|tool_call_start|> <|startoftext|> <|cot_start|> <|reserved_12|>",
    "Apertus": "<|system_start|> <|developer_end|> <|inner_prefix|> <|tools_suffix|> <|assistant_end|> <SPECIAL_61>",
    "StarCoder and other code models": """
        <fim_prefix> <fim_middle> <fim_suffix> <fim_pad> <fim-prefix> <file_sep> <repo_name> <reponame> <gh_stars>
        <issue_start> <issue_comment> <issue_closed> <jupyter_start> <jupyter_text> <jupyter_code> <jupyter_output>
        <empty_output> <commit_before> <commit_msg> <commit_after>
    """,
    "T5 and BERT": "<extra_id_0> <extra_id_99> [CLS] [SEP] [MASK] [PAD] [UNK] [unused12]",
    "Baichuan and others with reserved tokens": """
        <reserved_7> <reserved_106> <reserved_token_1> <reserved_special_token_2> <unused_12> <sentinel:0> <special_3>
        <placeholder_1>
    """,
    "Ling": "<role> </role> <|role_end|> <|startoftext|>",
    "Step": "<\uff5ctool_calls_begin\uff5c> <steptml:invoke> </steptml:invoke> <im_start> <im_patch>",
    "LongCat": "<longcat_think> </longcat_think> <longcat_tool_call> <longcat_s> </longcat_s>",
    "dots and PLaMo": "<|userprompt|> <|endofuserprompt|> <|response|> <|plamo:bos|> <|plamo:msg|>",
    "TeleChat and MiniCPM": "<_user> <_bot> <_end> <\u7528\u6237>",
    "Skywork": "[USER] [BOT]",
    "Whisper": "<|startoftranscript|> <|0.00|> <|notimestamps|>",
}

CONTROL_TOKENS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {family: tuple(tokens.split()) for family, tokens in _FAMILIES.items()}
)
"""Control tokens by family."""
